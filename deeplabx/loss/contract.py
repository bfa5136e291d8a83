"""What a loss is: a sum, and what it is divided by.

The step divides by the number of pixels or images of the whole batch, over all accumulated passes and
processes. So a loss that is a plain sum over pixels (cross-entropy) or images (Dice, Lovasz) has the same
gradient however the batch is split.
"""

from typing import Literal

from torch import Tensor, nn


class Loss(nn.Module):
    """logits N x C x H x W (float32) and labels int64 N x H x W to a 0-d sum.

    per: what the sum is divided by: "pixel", the number of pixels whose label is not the ignore index, or
    "image", the number of images with such a pixel. If there are none, the sum must be 0. exact: whether the
    sum over a batch is the sum over its parts. A loss over a whole batch, such as one that selects its
    hardest pixels, is computed for each pass of each process separately: set this to False, and with several
    passes or processes the log says so.
    """

    per: Literal["pixel", "image"] = "pixel"
    exact: bool = True

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        raise NotImplementedError

    @property
    def parts(self) -> "list[tuple[float, Loss]]":
        """What the step computes and adds up: (weight, loss), each loss divided as its own `per` says. A loss
        that is no sum of others is its own only part.
        """
        return [(1.0, self)]

    def at_step(self, step: int) -> None:
        """Called before the passes of each optimizer step with the number of steps taken so far: for a loss
        that changes during training. What it sets must be a function of the step alone, so that a resumed run
        computes the same.
        """
