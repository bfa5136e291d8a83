"""Cross-entropy, with class weights and label smoothing."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplabx.loss.contract import Loss


class CrossEntropy(Loss):
    """Sum over valid pixels of the cross-entropy times the weight of the pixel's class.

    Class weights change the sum, not what it is divided by: the gradient of a pixel does not depend on the
    others. A weight w makes a network predict its class w times as often as it occurs. With keep_priors the
    loss is computed on the logits plus log w, so that the network's own logits keep the true shares of the
    classes (after 2007.07314).

    label_smoothing: e, so that a pixel's truth is 1 - e of its own class, and e spread evenly over all
    (1512.00567, section 7); the weight of the pixel's class multiplies the whole of it.

    The sum is taken apart from the cross-entropy: torch's own reduction adds up in an order that changes from
    run to run on GPUs.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        keep_priors: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)  # moves to the device with the loss
        self.keep_priors, self.label_smoothing = keep_priors, label_smoothing

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return self.of_pixels(logits, labels, ignore_index=ignore_index).sum()

    def of_pixels(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        """The loss of each pixel, N x H x W, at least 0; 0 where the label is ignored."""
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        if weights is not None and self.keep_priors:
            logits = logits + weights.log()[:, None, None]
        if not self.label_smoothing:
            return F.cross_entropy(logits, labels, weights, ignore_index=ignore_index, reduction="none")
        losses = F.cross_entropy(
            logits,
            labels,
            ignore_index=ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        if weights is None:
            return losses
        # torch would weigh the spread part by the weights of the classes that it is spread over.
        return losses * weights[labels.where(labels != ignore_index, 0)]
