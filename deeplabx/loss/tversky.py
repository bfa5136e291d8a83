"""Tversky loss (1706.05721): Dice with separate weights of false positives and false negatives."""

import torch
from torch import Tensor

from deeplabx.loss.contract import Loss
from deeplabx.loss.one_hot import one_hot


class Tversky(Loss):
    """1 - T of each image, the mean over the classes in its labels, summed over the images, with

    T = (TP + smooth) / (TP + alpha FP + beta FN + smooth)

    where TP, FP and FN are sums of probabilities over the valid pixels (1706.05721, section 2, with every
    class in place of two). A class that is not in the labels of an image has no term of its own there: what
    is given to it is taken from those that are.

    Memory: two and a half copies of the logits (softmax, gradient, two masks of a byte).
    """

    per = "image"

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        truth = one_hot(labels, logits.shape[1], ignore_index=ignore_index)
        others = ~truth & (labels != ignore_index)[:, None]
        shares = logits.softmax(dim=1)
        counts = truth.sum(dim=(2, 3))  # N x C
        right = torch.where(truth, shares, 0).sum(dim=(2, 3))
        wrong = torch.where(others, shares, 0).sum(dim=(2, 3))
        union = right + self.alpha * wrong + self.beta * (counts - right) + self.smooth
        present = counts > 0
        losses = torch.where(present, 1 - (right + self.smooth) / torch.where(present, union, 1), 0)
        return (losses.sum(dim=1) / present.sum(dim=1).clamp(min=1)).sum()
