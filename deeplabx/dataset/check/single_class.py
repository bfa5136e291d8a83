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
    void, read = False, 0
    for index in range(len(samples)):
        label = samples.read_label(index)
        if label is None:
            continue
        read += 1
        values = set(np.unique(label).tolist())
        void = void or samples.ignore_index in values
        found |= values - {samples.ignore_index}
        if len(found) > 1:
            return
    if len(samples) and not read:
        raise DataError(
            f"none of the {len(samples)} training labels can be read", hint=f"the first: {samples.errors[0]}"
        )
    if len(samples):
        only = samples.classes[found.pop()] if found else "void"
        rest = "; all other pixels are void" if void and only != "void" else ""
        raise DataError(
            f"the {read} training labels contain only {only}{rest}",
            hint=how_to_have_two(samples),
        )


def how_to_have_two(samples: ReadableSet) -> str:
    if getattr(samples.samples, "mask_alpha", "") == "void":
        return "dataset.mask_alpha=void ignores transparent pixels; dataset.mask_alpha=keep uses their values"
    return (
        "is the value of a class ignored? With dataset=folder, write "
        "classes: {0: background, 255: object} in classes.yaml, without ignore and label_map"
    )
