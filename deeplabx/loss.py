"""Losses by name. The contract: a sum over valid pixels, which the loop divides by the number of valid pixels of the whole batch.

So that number is divided by once: over all accumulated passes and, later, all processes. A batch without valid pixels has loss 0.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from deeplabx.errors import ConfigError

LossSum = Callable[..., Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
    """Sum of the cross-entropy over valid pixels. logits N x C x H x W, labels int64 N x H x W; a 0-d tensor, 0 when none is valid."""
    return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")


LOSSES: dict[str, LossSum] = {"cross_entropy": cross_entropy}


def build_loss(name: str) -> LossSum:
    if name not in LOSSES:
        raise ConfigError(f"loss={name} is not known", hint=f"losses: {', '.join(LOSSES)}")
    return LOSSES[name]
