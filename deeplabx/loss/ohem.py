"""Cross-entropy of the hardest pixels: online hard example mining, as in DeepLabv3+'s released code."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeplabx.loss.cross_entropy import CrossEntropy


class OHEM(CrossEntropy):
    """The mean of the cross-entropy over a share of the pixels, those with the largest one.

    share: of the pixels that count in the end. anneal_steps: steps over which it falls to that from 1, as
    hard_example_mining_step of the released code; 0: none. The share is a function of the step alone.

    exact: whether each image gives its own share of its valid pixels (rounded down, at least one). The mean
    over them, times the number of valid pixels of the image, is summed over the images: divided by the valid
    pixels of the batch, it is the images' means, each weighted by its pixels. With share 1 that is the
    cross-entropy, and a chosen pixel of an image counts 1 / share times as much as there.

    exact=False chooses as the released code does: a share of all pixels of a pass, ignored ones counted, with
    the mean taken over the chosen ones whose loss is not 0. So it depends on how a batch is split.

    Class weights multiply before pixels are chosen. Pixels whose loss equals the smallest chosen one share
    what is left of the number evenly, so that no order of pixels matters.

    Memory: that of cross-entropy; what is sorted is N x H x W.
    """

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        keep_priors: bool = False,
        label_smoothing: float = 0.0,
        share: float = 0.25,
        anneal_steps: int = 0,
        exact: bool = True,
    ) -> None:
        super().__init__(
            class_weights=class_weights, keep_priors=keep_priors, label_smoothing=label_smoothing
        )
        self.share, self.anneal_steps, self.exact = share, anneal_steps, exact
        self.at_step(0)

    def at_step(self, step: int) -> None:
        ratio = min(1.0, step / self.anneal_steps) if self.anneal_steps else 1.0
        self.share_now = ratio * self.share + (1.0 - ratio)

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        losses = self.of_pixels(logits, labels, ignore_index=ignore_index)
        valid = labels != ignore_index
        losses, valid = (one.flatten(1 if self.exact else 0) for one in (losses, valid))
        if not self.exact:
            losses, valid = losses[None], valid[None]  # one row of all pixels of the pass
        values = losses.detach()
        counted = valid.sum(dim=1).double()
        if self.exact:
            # Slightly more, so that 0.1 of 30 pixels, which is 2.9999... or 3.0000... in binary, is 3.
            number = (self.share_now * counted + 1e-6).floor().clamp(min=1)
            chosen = number
        else:
            number = torch.full_like(counted, max(1, int(self.share_now * valid.shape[1])))
            chosen = torch.minimum(number, (values > 0).sum(dim=1)).clamp(min=1)
        weights = of_largest(values.masked_fill(~valid, -1.0), number)
        means = (losses * weights).sum(dim=1) / chosen
        return (means * counted).sum().to(losses.dtype)


@torch.no_grad()
def of_largest(values: Tensor, number: Tensor) -> Tensor:
    """Weights of the `number` largest values of each row, rows x P: 1, at the smallest of them the share that
    is left to each that equals it, and 0 below. number: float64, of each row.
    """
    smallest = values.sort(dim=1, descending=True).values.gather(1, number.long()[:, None] - 1)
    above, equal = values > smallest, values == smallest
    left = (number - above.sum(dim=1)) / equal.sum(dim=1)
    return torch.where(equal, left[:, None].to(values.dtype), above.to(values.dtype))
