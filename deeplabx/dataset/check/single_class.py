"""Refuse a training split that has a single class."""

import numpy as np

from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError


def refuse_single_class(samples: ReadableSet) -> None:
    """Raise DataError if a training split has a single class, apart from void: there is nothing to learn.

    Masks of 0 and 255 become such a split when 255 is ignored. Labels are read until a second class is found,
    usually one or two.
    """
    found: set[int] = set()
    void = False
    for index in range(len(samples)):
        label = samples.read_label(index)
        if label is None:
            continue
        values = set(np.unique(label).tolist())
        void = void or samples.ignore_index in values
        found |= values - {samples.ignore_index}
        if len(found) > 1:
            return
    if len(samples):
        only = samples.classes[found.pop()] if found else "no class"
        raise DataError(
            f"the {len(samples)} training labels contain only "
            f"{only}{'; all other pixels are void' if void else ''}",
            hint="is the value of a class ignored? With dataset=folder, write "
            "classes: {0: background, 255: object} in classes.yaml, without ignore and label_map",
        )
