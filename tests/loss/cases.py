"""Losses to test, and a batch with everything that a batch can have."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from deeplabx.loss.contract import Loss
from deeplabx.registry import build

CLASSES = 5
IGNORE = 255


class Case(NamedTuple):
    """A loss and its settings."""

    name: str
    settings: dict[str, Any] = {}
    step: int = 0

    def build(self) -> Loss:
        loss: Loss = build("loss", self.name, **self.settings)
        loss.at_step(self.step)
        return loss

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.settings.items())])


WEIGHTS = [0.5, 1.0, 4.0, 2.0, 1.5]
SINGLE = [
    Case("cross_entropy"),
    Case("cross_entropy", {"class_weights": WEIGHTS, "keep_priors": True}),
    Case("cross_entropy", {"label_smoothing": 0.1}),
    Case("cross_entropy", {"class_weights": WEIGHTS, "keep_priors": True, "label_smoothing": 0.2}),
    Case("ohem", {"share": 0.3}),
    Case("ohem", {"share": 0.3, "class_weights": WEIGHTS, "keep_priors": True}),
    Case("ohem", {"share": 0.2, "anneal_steps": 10, "label_smoothing": 0.1}, step=4),
    Case("ohem", {"share": 0.3, "exact": False}),
    Case("focal"),
    Case("focal", {"gamma": 0.5, "class_weights": WEIGHTS}),
    Case("boundary"),
    Case("boundary", {"sigma": 1.0, "ignored_edges": True, "class_weights": WEIGHTS}),
    Case("dice"),
    Case("tversky"),
    Case("lovasz"),
    Case("rmi"),
    Case("rmi", {"radius": 2, "downsampling": 1}),
]


def composite(*parts: tuple[float, Case]) -> Loss:
    return build("loss", "composite", parts=[(weight, case.build()) for weight, case in parts])


def batch(*, images: int = 4, size: tuple[int, int] = (9, 8), seed: int = 0) -> tuple[Tensor, Tensor]:
    """float64 logits and labels: one image is all ignored, one of a single class, one without ignored pixels,
    and class 4 is nowhere.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, CLASSES, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (images, *size), generator=generator)
    labels[0, 2:5, 1:4] = IGNORE
    labels[1] = IGNORE
    labels[2] = 2
    return logits, labels


def mean(loss: Loss, logits: Tensor, labels: Tensor, *, passes: int = 1, processes: int = 1) -> Tensor:
    """What the contract says that a step minimises: each part's sum over all passes of all processes, divided
    by the valid pixels of the whole batch, or its images with one.
    """
    valid = (labels != IGNORE).flatten(1).sum(1)
    total = torch.zeros((), dtype=logits.dtype)
    for weight, part in loss.parts:
        divisor = valid.sum() if part.per == "pixel" else (valid > 0).sum()
        for own_logits, own_labels in zip(logits.chunk(processes), labels.chunk(processes), strict=True):
            for some, truth in zip(own_logits.chunk(passes), own_labels.chunk(passes), strict=True):
                total = total + weight * part(some, truth, ignore_index=IGNORE) / divisor.clamp(min=1)
    return total


def gradient(loss: Loss, logits: Tensor, labels: Tensor, **split: int) -> Tensor:
    logits = logits.detach().clone().requires_grad_()
    mean(loss, logits, labels, **split).backward()
    assert logits.grad is not None
    return logits.grad
