"""What a split holds, summed up from the facts of its samples: classes, void, sizes, channels; and what
follows for training on it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.class_balance import BALANCES, balanced_weights
from deeplabx.dataset.contract import Statistics
from deeplabx.errors import DataError

Size = tuple[int, int]  # width and height
STRIDE = (
    16  # crops are multiples of it and one more pixel, so that features cover them at output stride 16 and 8
)
MOST_CROP = 769  # v3+ on Cityscapes; larger crops need more memory than most GPUs have for a batch
LEAST_CROP = 33
BINS = 20  # of a histogram


@dataclass(frozen=True)
class SplitStatistics:
    """Of one split; images that cannot be used are counted in `unreadable` alone.

    pixels: int64 C + 1, of each class and last of void. holding: int64 C + 1, images that hold them. around:
    int64 C, valid pixels of the images that hold the class. sizes: images by width and height.
    """

    split: str
    images: int
    problems: tuple[DataError, ...]
    pixels: np.ndarray
    holding: np.ndarray
    around: np.ndarray
    sizes: Counter[Size]
    channels: Statistics | None  # None where no image was read

    @property
    def unreadable(self) -> int:
        return len(self.problems)

    @property
    def read(self) -> int:
        """Images whose labels were counted."""
        return self.images - self.unreadable

    @property
    def shares(self) -> np.ndarray:
        """Of each class among the valid pixels, float64 C."""
        return self.pixels[:-1] / max(1, self.pixels[:-1].sum())

    @property
    def void(self) -> float:
        """The share of void among all pixels."""
        return float(self.pixels[-1] / max(1, self.pixels.sum()))

    def class_weights(self) -> dict[str, list[float]]:
        """By each method of loss.class_balance, as training would count them; none where there is no valid
        pixel.
        """
        if not self.pixels[:-1].any():
            return {}
        counts = torch.from_numpy(np.stack([self.pixels[:-1], self.around]))
        return {name: balanced_weights(name, counts) for name in BALANCES}


def summed(facts: Sequence[Facts], *, split: str, num_classes: int) -> SplitStatistics:
    """The statistics of a split, from the facts of its samples. Of each that cannot be used, the first
    problem is kept.
    """
    own = [one for one in facts if one.split == split]
    pixels, holding = (np.zeros(num_classes + 1, np.int64) for _ in range(2))
    around = np.zeros(num_classes, np.int64)
    sizes: Counter[Size] = Counter()
    channels = ChannelTotals()
    problems = []
    for one in own:
        if one.problems:
            problems.append(one.problems[0])
            continue
        if one.pixels is not None:
            there = one.pixels > 0
            pixels += one.pixels
            holding += there
            around += np.where(there[:-1], one.pixels[:-1].sum(), 0)
        if one.size is not None:
            sizes[one.size] += 1
        channels.add(one)
    return SplitStatistics(
        split, len(own), tuple(problems), pixels, holding, around, sizes, channels.statistics()
    )


class ChannelTotals:
    """Sums over all pixels. Those of an image are whole numbers, and Python's have no limit; of floats, the
    variance would be the small difference of two large ones.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self.sums: list[int] = []
        self.squares: list[int] = []

    def add(self, facts: Facts) -> None:
        if facts.channels is None:
            return
        self.pixels += facts.channels.pixels
        sums, squares = ([round(one) for one in found] for found in facts.channels[1:])
        self.sums = [a + b for a, b in zip(self.sums or [0] * len(sums), sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares or [0] * len(squares), squares, strict=True)]

    def statistics(self) -> Statistics | None:
        """Mean and standard deviation of each channel over all pixels."""
        if not self.pixels:
            return None
        mean = tuple(one / self.pixels for one in self.sums)
        std = tuple(
            math.sqrt(self.pixels * square - one * one) / self.pixels
            for one, square in zip(self.sums, self.squares, strict=True)
        )
        return Statistics(mean, std)


# --- sizes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Of some whole numbers. median: the lower one of two."""

    least: int
    median: int
    most: int


def spread(values: Counter[int]) -> Spread:
    """values: how often each occurs, at least one."""
    return Spread(min(values), median(values), max(values))


def median(values: Counter[int]) -> int:
    half, reached = (values.total() + 1) // 2, 0
    for value in sorted(values):
        reached += values[value]
        if reached >= half:
            return value
    raise ValueError("there are no values")


def widths(sizes: Counter[Size]) -> Counter[int]:
    return counted(sizes, lambda size: size[0])


def heights(sizes: Counter[Size]) -> Counter[int]:
    return counted(sizes, lambda size: size[1])


def short_sides(sizes: Counter[Size]) -> Counter[int]:
    return counted(sizes, min)


def counted(sizes: Counter[Size], side: Any) -> Counter[int]:
    found: Counter[int] = Counter()
    for size, count in sizes.items():
        found[side(size)] += count
    return found


def binned(values: Counter[int]) -> tuple[list[float], list[int]]:
    """Edges and counts of a histogram: a bar for each value where there are few, else `BINS` of one width."""
    low, high = min(values), max(values)
    if high - low < BINS:
        return [one - 0.5 for one in range(low, high + 2)], [values[one] for one in range(low, high + 1)]
    counts, edges = np.histogram(list(values), bins=BINS, weights=list(values.values()))
    return [float(edge) for edge in edges], [round(count) for count in counts]


# --- what follows for training ------------------------------------------------------------------------------

CROP_RULE = (
    f"the largest {STRIDE}k + 1 that is not above the median short side of the training images, from "
    f"{LEAST_CROP} to {MOST_CROP}: features of output stride {STRIDE} and 8 then cover the crop evenly, few "
    "images are padded, and a batch fits most GPUs"
)


def suggested_crop(sizes: Counter[Size]) -> int | None:
    """A value for augment.crop_size, by CROP_RULE; None where there are no images."""
    if not sizes:
        return None
    side = median(short_sides(sizes))
    return min(MOST_CROP, max(LEAST_CROP, (side - 1) // STRIDE * STRIDE + 1))


def plain(found: SplitStatistics, classes: Sequence[str]) -> dict[str, Any]:
    """The statistics of a split as JSON takes them."""
    sides = {"width": widths(found.sizes), "height": heights(found.sizes)} if found.sizes else {}
    return {
        "images": found.images,
        "unreadable": [problem.message for problem in found.problems],
        "void": {"pixels": int(found.pixels[-1]), "share": found.void, "images": int(found.holding[-1])},
        "classes": {
            name: {
                "pixels": int(found.pixels[number]),
                "share": float(found.shares[number]),
                "images": int(found.holding[number]),
            }
            for number, name in enumerate(classes)
        },
        "sizes": {
            **{name: vars(spread(values)) for name, values in sides.items()},
            "most_frequent": [
                {"width": width, "height": height, "images": count}
                for (width, height), count in most_frequent(found.sizes, 10)
            ],
            "different": len(found.sizes),
        },
        "channels": None
        if found.channels is None
        else {k: list(v) for k, v in found.channels._asdict().items()},
    }


def most_frequent(sizes: Counter[Size], most: int) -> list[tuple[Size, int]]:
    """Sizes with their counts, the most frequent first; of equal ones, the larger first."""
    return sorted(sizes.items(), key=lambda pair: (-pair[1], -pair[0][0] * pair[0][1], pair[0]))[:most]
