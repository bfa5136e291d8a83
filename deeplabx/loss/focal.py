"""Focal loss (1708.02002): cross-entropy in which easy pixels count less."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplabx.loss.contract import Loss

LEAST = 1e-12  # of 1 - p: below it there is no gradient, which would be infinite for gamma < 1


class Focal(Loss):
    """Sum over valid pixels of -w (1 - p)^gamma log p, with the probability p and the weight w of the pixel's
    class (1708.02002, equation 5; w is its alpha).

    1 - p is computed as -expm1(log p), which is precise where p is near 1.
    """

    class_weights: Tensor | None

    def __init__(self, *, class_weights: Sequence[float] | None = None, gamma: float = 2.0) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        losses = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
        focal = (-torch.expm1(-losses)).clamp(min=LEAST) ** self.gamma * losses
        if self.class_weights is not None:
            focal = focal * self.class_weights.to(logits)[labels.where(labels != ignore_index, 0)]
        return focal.sum()
