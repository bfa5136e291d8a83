"""Labels as one mask per class, and which classes a loss computes."""

import torch
from torch import Tensor


def one_hot(labels: Tensor, num_classes: int, *, ignore_index: int) -> Tensor:
    """bool N x C x H x W: whether a pixel is of a class; nowhere true where the label is ignored."""
    classes = torch.arange(num_classes, device=labels.device)[:, None, None]
    return (labels[:, None] == classes) & (labels != ignore_index)[:, None]


def waits_are_free(tensor: Tensor) -> bool:
    """Whether the host may read a value. On a GPU it would wait for the whole forward."""
    return tensor.device.type == "cpu"


def classes_to_compute(present: Tensor) -> list[int]:
    """Of a loss to which a class that is not there adds nothing: the classes that are (of bool C), or all
    where asking for them would take long.
    """
    if not waits_are_free(present):
        return list(range(len(present)))
    indices: list[int] = present.nonzero()[:, 0].tolist()
    return indices


def of_classes(maps: Tensor, classes: list[int]) -> Tensor:
    """Some of the maps C x ..., in slices, whose backward adds nothing up: that of indexing would."""
    if len(classes) == len(maps):
        return maps
    return torch.stack([maps[index] for index in classes]) if classes else maps[:0]
