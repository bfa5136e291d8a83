"""A weighted sum of losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeplabx.loss.contract import Loss


class Composite(Loss):
    """The sum of other losses, each times its weight and divided by pixels or images, as its `per` says.

    The training step adds up its `parts`. Called on its own it gives the loss of a batch as if that were the
    whole one.
    """

    def __init__(self, *, parts: Sequence[tuple[float, Loss]]) -> None:
        super().__init__()
        self.weights = [float(weight) for weight, _ in parts]
        self.losses = nn.ModuleList(loss for _, loss in parts)  # whose buffers move to the device with it
        self.exact = all(loss.exact for _, loss in parts)

    @property
    def parts(self) -> list[tuple[float, Loss]]:
        """The parts of all its losses, any of which may have parts of its own."""
        return [
            (weight * own, part)
            for weight, loss in zip(self.weights, self.losses, strict=True)
            for own, part in loss.parts  # type: ignore[union-attr]
        ]

    def at_step(self, step: int) -> None:
        for loss in self.losses:
            loss.at_step(step)  # type: ignore[operator]

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        valid = (labels != ignore_index).flatten(1).sum(dim=1)  # of each image
        divisors = {"pixel": valid.sum().clamp(min=1), "image": (valid > 0).sum().clamp(min=1)}
        sums = [
            weight * loss(logits, labels, ignore_index=ignore_index) / divisors[loss.per]
            for weight, loss in self.parts
        ]
        return torch.stack(sums).sum()
