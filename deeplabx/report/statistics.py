"""How sure a mean IoU is: the bootstrap over the images of a split, or over groups of them."""

from typing import NamedTuple

import numpy as np

from deeplabx.engine.record.record import Record

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_GROUPS = 10  # a bootstrap over fewer says too little


class Interval(NamedTuple):
    """Ends of a confidence interval, both in 0..1."""

    low: float
    high: float


class Bootstrap(NamedTuple):
    """Confidence intervals. over: what was drawn, "images" or "groups"; units: how many of them there are;
    words: what is said of that choice, such as that the frames of a video are not independent.
    """

    miou: Interval
    per_class: dict[str, Interval | None]  # None: the class is neither labelled nor predicted
    over: str
    units: int
    resamples: int
    words: str = ""


def bootstrap(
    record: Record, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Bootstrap:
    """Intervals of mIoU and IoU. The same seed gives the same intervals."""
    hits, labelled, predicted = (value.astype(np.float64) for value in record.class_pixels)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(hits), np.full(len(hits), 1 / len(hits)), size=resamples)
    found, rows, columns = (weights @ value for value in (hits, labelled, predicted))
    union = rows + columns - found
    iou = np.where(union > 0, found / np.maximum(union, 1), np.nan)
    ends = [(1 - level) / 2, (1 + level) / 2]
    per_class = {
        name: Interval(*np.nanquantile(iou[:, index], ends)) if union[:, index].any() else None
        for index, name in enumerate(record.classes)
    }
    return Bootstrap(
        Interval(*np.nanquantile(np.nanmean(iou, axis=1), ends)), per_class, "images", len(hits), resamples
    )
