"""Find out whether training and validation have the same classes: where the labels of a split name them, as
those of COCO JSON do, they may not.
"""

from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError, listed


def refuse_different_classes(training: ReadableSet, validation: ReadableSet) -> None:
    """Raise DataError unless both have the same classes in the same order."""
    ours, theirs = training.classes, validation.classes
    if ours == theirs:
        return
    only = [
        f"only {split.split} has {listed(names)}"
        for split, names in (
            (training, [name for name in ours if name not in theirs]),
            (validation, [name for name in theirs if name not in ours]),
        )
        if names
    ]
    raise DataError(
        f"splits {training.split} and {validation.split} have different classes: "
        f"{'; '.join(only) or 'the same names in another order'}",
        hint="write all classes into a classes.yaml, as in classes: [road, car]",
    )
