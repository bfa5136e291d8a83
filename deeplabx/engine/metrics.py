"""mIoU and the other metrics, from one int64 confusion matrix over a whole split."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeplabx.errors import DataError
from deeplabx.process.terminal import columns, padded


def confusion_matrix(predicted: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int) -> Tensor:
    """int64 num_classes x num_classes, rows = label, columns = prediction; pixels labelled `ignore_index` are
    not counted.

    predicted, labels: integer tensors of one shape, predictions in 0..num_classes-1.
    """
    # One more cell for the pixels that do not count: to select the others takes four times as long on a CPU.
    cells = (labels.to(torch.int32) * num_classes).add_(predicted)
    cells = cells.masked_fill_(labels == ignore_index, num_classes**2).flatten()
    counted = torch.bincount(cells, minlength=num_classes**2 + 1)[:-1]
    return counted.reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Metrics:
    """The metrics of a confusion matrix, all in 0..1.

    miou is the mean over classes with TP + FP + FN > 0: a class absent from the labels but predicted counts
    as 0; one that is neither labelled nor predicted is excluded and listed in `absent`. This equals the
    official Cityscapes scorer. miou_gt_only is the mean over the classes present in the labels.
    """

    miou: float
    miou_gt_only: float
    pixel_accuracy: float
    mean_class_accuracy: float
    frequency_weighted_iou: float
    per_class_iou: dict[str, float | None]  # None: neither labelled nor predicted
    absent: list[str]
    confusion_sha256: str
    images: int = 0  # number of images counted
    unreadable: list[str] = field(default_factory=list)  # error messages of skipped images
    confusion: Tensor | None = field(default=None, repr=False, compare=False)  # what they were computed from

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it: without the matrix."""
        return {name: value for name, value in vars(self).items() if name != "confusion"}


def metrics(confusion: Tensor, classes: list[str]) -> Metrics:
    """The metrics of an int64 C x C confusion matrix, computed in float64. Raises DataError if it
    counts no pixel.
    """
    confusion = confusion.cpu()
    if not confusion.any():
        raise DataError("no pixel was counted, so there are no metrics")
    hits = confusion.diag().double()
    labelled, predicted = confusion.sum(1).double(), confusion.sum(0).double()
    union = labelled + predicted - hits
    iou = hits / union
    seen, present = union > 0, labelled > 0
    total = labelled.sum()
    return Metrics(
        miou=mean(iou[seen]),
        miou_gt_only=mean(iou[present]),
        pixel_accuracy=float(hits.sum() / total),
        mean_class_accuracy=mean((hits / labelled)[present]),
        frequency_weighted_iou=float((labelled / total * iou)[present].sum()),
        per_class_iou={
            name: float(value) if there else None
            for name, value, there in zip(classes, iou, seen, strict=True)
        },
        absent=[name for name, there in zip(classes, seen, strict=True) if not there],
        confusion_sha256=sha256_of(confusion.long().numpy()),
        confusion=confusion,
    )


def sha256_of(confusion: np.ndarray) -> str:
    """The `confusion_sha256` of an int64 C x C confusion matrix: the same for the same evaluation."""
    return hashlib.sha256(confusion.tobytes()).hexdigest()


def mean(values: Tensor) -> float:
    """Summed one after the other, as the Cityscapes scorer does: other orders differ in the last digit."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total / len(values)


def table(result: Metrics) -> str:
    """The per-class table and the summary, as text."""
    summary = {
        "mIoU": result.miou,
        "mIoU of labelled classes": result.miou_gt_only,
        "pixel accuracy": result.pixel_accuracy,
        "mean class accuracy": result.mean_class_accuracy,
        "frequency-weighted IoU": result.frequency_weighted_iou,
    }
    width = max(map(columns, [*summary, *result.per_class_iou]))
    per_class = [
        f"{padded(name, width)}  {'absent' if value is None else f'{value:.4f}'}"
        for name, value in result.per_class_iou.items()
    ]
    return "\n".join(
        [*per_class, "-" * (width + 8), *(f"{name:<{width}}  {value:.4f}" for name, value in summary.items())]
    )
