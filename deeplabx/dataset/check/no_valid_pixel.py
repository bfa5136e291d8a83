"""Refuse an evaluated split without a single valid pixel."""

from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError


def refuse_no_valid_pixel(samples: ReadableSet) -> None:
    """Raise DataError if no label of an evaluated split has a valid pixel, as in published test sets: there
    is nothing to measure. Labels are read until one has; usually that is the first.
    """
    for index in range(len(samples)):
        label = samples.read_label(index)
        if label is not None and (label != samples.ignore_index).any():
            return
    raise no_valid_pixel(samples, unreadable=samples.take_errors())


def no_valid_pixel(samples: ReadableSet, *, unreadable: list[str]) -> DataError:
    """What is wrong with a split that has no valid pixel. unreadable: the messages of images that were
    skipped.
    """
    count, split = len(samples), samples.split
    if not count:
        return DataError(f"split {split} holds no images, so there is nothing to evaluate")
    if len(unreadable) == count:
        return DataError(
            f"none of the {count} images of split {split} can be read, so there is nothing to evaluate",
            hint=f"the first: {unreadable[0]}",
        )
    skipped = f", {len(unreadable)} of them unreadable" if unreadable else ""
    return DataError(
        f"split {split} has no valid pixel: all pixels of its {count} labels are ignored "
        f"({samples.ignore_index}){skipped}",
        hint="labels of published test sets are often void: evaluate another split (dataset.split=NAME); "
        "else check label_map and ignore",
    )
