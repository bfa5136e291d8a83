"""Labels as one mask per class."""

import torch
from torch import Tensor


def one_hot(labels: Tensor, num_classes: int, *, ignore_index: int) -> Tensor:
    """bool N x C x H x W: whether a pixel is of a class; nowhere true where the label is ignored."""
    classes = torch.arange(num_classes, device=labels.device)[:, None, None]
    return (labels[:, None] == classes) & (labels != ignore_index)[:, None]
