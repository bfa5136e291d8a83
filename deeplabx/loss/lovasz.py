"""Lovasz-softmax: a convex extension of 1 - IoU (1705.08790)."""

import torch
from torch import Tensor

from deeplabx.loss.contract import Loss
from deeplabx.loss.one_hot import classes_to_compute, of_classes


class LovaszSoftmax(Loss):
    """1 - IoU of each image, in its Lovasz extension: the mean over the classes in its labels, summed over
    the images (1705.08790; the paper's code can also take a batch for one image, which would not be exact).

    The errors of a class, 1 - p at its own pixels and p at all others, are sorted, the largest first; each
    pixel's weight is how much 1 - IoU grows when the pixel joins those before it that are predicted wrong.
    The weights are computed without gradient, and are constant where no two errors are equal; the loss is
    their product with the errors in the images' own order, so sorting is never differentiated. Equal errors
    are taken in the order of the pixels.

    Memory: four copies of the logits (softmax, errors' sign, weights, gradient), and some of one image.
    """

    per = "image"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        losses = []
        for scores, label in zip(logits, labels.flatten(1), strict=True):
            losses.append(image_loss(scores.flatten(1), label, ignore_index=ignore_index))
        return torch.stack(losses).sum()


def image_loss(logits: Tensor, label: Tensor, *, ignore_index: int) -> Tensor:
    """The loss of one image: logits C x P and label P, 0-d; 0 where it has no valid pixel."""
    valid = label != ignore_index
    classes = torch.arange(logits.shape[0], device=label.device)[:, None]
    truth = (label == classes) & valid  # C x P
    counts = truth.sum(dim=1)
    shares = logits.softmax(dim=0)
    present = counts > 0
    chosen = classes_to_compute(present)
    shares, truth, counts = (of_classes(one, chosen) for one in (shares, truth, counts))
    errors = torch.where(truth, 1 - shares, shares)
    weights = pixel_weights(errors.detach(), truth, counts, valid)
    return (errors * weights).sum() / present.sum().clamp(min=1)


@torch.no_grad()
def pixel_weights(errors: Tensor, truth: Tensor, counts: Tensor, valid: Tensor) -> Tensor:
    """How much 1 - IoU of each class grows with each pixel, C x P. counts: pixels of each class.

    Behind f pixels of a class of n, and b others, it is 1 - (n - f) / (n + b). The next pixel of the class
    adds 1 / (n + b), another one (n - f) / ((n + b) (n + b + 1)): no difference of two numbers near 1, and
    no running sum of floating-point numbers.
    """
    order = errors.masked_fill(~valid, -1.0).argsort(dim=1, descending=True, stable=True)
    own = truth.gather(1, order)
    before = own.cumsum(dim=1, dtype=torch.int32) - own.int()  # pixels of the class before each
    others = torch.arange(own.shape[1], device=own.device, dtype=torch.int32) - before
    union = (counts[:, None] + others).to(errors.dtype)
    left = (counts[:, None] - before).to(errors.dtype)
    grown = torch.where(own, 1.0, left / (union + 1)) / union.clamp(min=1)
    weights = torch.empty_like(errors, memory_format=torch.contiguous_format).scatter_(1, order, grown)
    return weights.mul_(valid & (counts > 0)[:, None])
