"""Losses by name. The contract: a sum over valid pixels, which the loop divides by the number of valid pixels
of the whole batch.

So that number is divided by once: over all accumulated passes and, later, all processes. A batch without
valid pixels has loss 0. Class weights change the sum, not the number: the gradient of a pixel does not depend
on what else is in its pass.
"""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplabx.errors import ConfigError

LossSum = Callable[..., Tensor]


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    keep_priors: bool = False,
) -> Tensor:
    """Sum over valid pixels of the cross-entropy times the weight of the pixel's class; a 0-d tensor, 0 when
    no pixel is valid.

    logits N x C x H x W, labels int64 N x H x W, class_weights C. A weight w lets a network believe in its
    class w times as often as it is there: with keep_priors the loss sees the logits plus log w, so that the
    network's own logits stay those of the classes' true shares (after 2007.07314).
    """
    if class_weights is None:
        return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    if keep_priors:
        logits = logits + class_weights.log().to(logits)[:, None, None]
    return F.cross_entropy(
        logits, labels, class_weights.to(logits), ignore_index=ignore_index, reduction="sum"
    )


LOSSES: dict[str, LossSum] = {"cross_entropy": cross_entropy}


def build_loss(
    name: str, *, class_weights: Sequence[float] | None = None, keep_priors: bool = False
) -> LossSum:
    if name not in LOSSES:
        raise ConfigError(f"loss={name} is not known", hint=f"losses: {', '.join(LOSSES)}")
    if class_weights is None:
        return LOSSES[name]
    return functools.partial(LOSSES[name], class_weights=torch.tensor(class_weights), keep_priors=keep_priors)
