"""The images in which two entries differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplabx.report.compare.comparison import Comparison, Row
from deeplabx.report.compare.entries import Evaluated

MOST_PAIRS = 3  # entries whose images are shown beside the reference's


@dataclass(frozen=True)
class Example:
    """An image on which the entry is better (gain above 0) or worse than the reference, by the mIoU of the
    image alone. image: uint8 H x W x C; label: H x W, and predictions of both, h x w of the same shape ratio;
    None where there is none.
    """

    name: str
    gain: float
    image: np.ndarray | None
    label: np.ndarray | None
    predicted: np.ndarray | None
    of_reference: np.ndarray | None


@dataclass(frozen=True)
class Examples:
    """Of one entry against the reference. words: why something is not shown; "" where all is."""

    row: Row
    examples: Sequence[Example]
    words: str


def pairs_shown(comparison: Comparison) -> list[Row]:
    """The rows whose images are shown: the first others."""
    return comparison.others[:MOST_PAIRS]


def gains(row: Row, comparison: Comparison) -> np.ndarray:
    """Of each image of the first fold: mIoU of the entry minus that of the reference, means over seeds."""
    fold = comparison.reference.folds[0]
    first, second = (miou_of_images(one.of_fold(fold)) for one in (row.entry, comparison.reference))
    return first - second


def miou_of_images(runs: Sequence[Evaluated]) -> np.ndarray:
    return np.mean([one.record.counts.miou_of_images() for one in runs], axis=0)


def most_different(gain: np.ndarray, *, most: int) -> list[int]:
    """The images with the largest gains, then those with the largest losses, at most `most` of each."""
    order = [int(at) for at in np.argsort(-gain, kind="stable") if np.isfinite(gain[at])]
    better = [at for at in order if gain[at] > 0][:most]
    worse = [at for at in reversed(order) if gain[at] < 0][:most]
    return [*better, *worse]
