"""Cross-entropy that counts more near the boundaries of the labels, after U-Net (1505.04597)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplabx.loss.cross_entropy import CrossEntropy

REACH = 3  # standard deviations: beyond, a boundary adds less than 1.2 % of `amount`


class Boundary(CrossEntropy):
    """Sum over valid pixels of the cross-entropy times 1 + amount exp(-d^2 / (2 sigma^2)), d being the
    distance in pixels to the nearest boundary (1505.04597, equation 2, which has the distances of the two
    nearest cells; there amount is 10, sigma about 5). It is still divided by the number of valid pixels.

    A boundary pixel has a pixel of another class among its eight neighbours, and d = 0; from there d counts
    steps in eight directions. The edge of ignored pixels is a boundary only with ignored_edges: in Pascal
    VOC, whose boundaries are ignored, nothing else is one.

    Memory: that of cross-entropy; distances are of N x H x W, and the labels' alone.
    """

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        keep_priors: bool = False,
        label_smoothing: float = 0.0,
        amount: float = 2.0,
        sigma: float = 5.0,
        ignored_edges: bool = False,
    ) -> None:
        super().__init__(
            class_weights=class_weights, keep_priors=keep_priors, label_smoothing=label_smoothing
        )
        self.amount, self.sigma, self.ignored_edges = amount, sigma, ignored_edges

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        losses = self.of_pixels(logits, labels, ignore_index=ignore_index)
        return (losses * self.weights(labels, ignore_index=ignore_index).to(losses.dtype)).sum()

    @torch.no_grad()
    def weights(self, labels: Tensor, *, ignore_index: int) -> Tensor:
        """The factor of each pixel, float32 N x H x W."""
        near = boundaries(labels, ignore_index=ignore_index, ignored_edges=self.ignored_edges).float()
        # exp(-d^2 / (2 sigma^2)); it falls with d, so the nearest boundary of a pixel counts.
        closeness = near.clone()
        for distance in range(1, math.ceil(REACH * self.sigma) + 1):
            near = F.max_pool2d(near, 3, stride=1, padding=1)
            closeness = torch.maximum(closeness, near * math.exp(-(distance**2) / (2 * self.sigma**2)))
        return 1 + self.amount * closeness


def boundaries(labels: Tensor, *, ignore_index: int, ignored_edges: bool) -> Tensor:
    """Whether a valid pixel has a neighbour of another class (with ignored_edges: or an ignored one), bool
    N x H x W.
    """
    valid, classes = labels != ignore_index, labels.float()
    if ignored_edges:
        largest, smallest = classes, -classes
    else:
        largest, smallest = (one.masked_fill(~valid, -math.inf) for one in (classes, -classes))
    above = F.max_pool2d(largest, 3, stride=1, padding=1) > classes
    below = F.max_pool2d(smallest, 3, stride=1, padding=1) > -classes
    return (above | below) & valid
