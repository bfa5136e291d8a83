"""A training split that holds one class."""

import numpy as np

from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError


def refuse_single_class(samples: ReadableSet) -> None:
    """Raise DataError where a training split holds one class and void: nothing can be learned from it.

    It is what becomes of masks 0/255 when 255 is ignored. Labels are read until a second class is found, most
    often one or two.
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
            f"the {len(samples)} training labels hold only "
            f"{only}{'; every other pixel is void' if void else ''}",
            hint="is the value of a class ignored? dataset=folder: label_map: {0: background, 255: object} "
            "in classes.yaml",
        )
