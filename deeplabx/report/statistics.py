"""How sure a mean IoU is, and how sure a difference between two is: the bootstrap over the images of a split,
or over groups of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit  # of scipy.stats, which takes half a second to import

from deeplabx.engine.metrics import metrics
from deeplabx.engine.record.record import Record
from deeplabx.errors import listed
from deeplabx.report.statistics_draws import Drawn, Stratum, Whole, drawn
from deeplabx.report.statistics_units import FEWEST_GROUPS, Member, Units

__all__ = [
    "FEWEST_GROUPS",
    "FEWEST_WITH_CLASS",
    "LEVEL",
    "RESAMPLES",
    "Bootstrap",
    "Difference",
    "Fold",
    "Interval",
    "bootstrap",
    "difference",
    "holm",
]

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_WITH_CLASS = 5  # images or groups: of a class in fewer, no interval is given


class Interval(NamedTuple):
    """Ends of a confidence interval: of an IoU in 0..1, of a difference in -1..1."""

    low: float
    high: float


class Bootstrap(NamedTuple):
    """Confidence intervals. over: what was drawn, "images" or "groups"; units: how many of them there are;
    words: what is said of that choice, such as that the frames of a video are not independent.
    """

    miou: Interval
    per_class: dict[str, Interval | None]  # None: the class is labelled in fewer than FEWEST_WITH_CLASS units
    over: str
    units: int
    resamples: int
    words: str = ""


class Difference(NamedTuple):
    """A minus B. sure: the probability that A is better, 0..1; p: two-sided, of no difference.

    A class's value is None where it is not labelled, its interval where it is labelled in too few units.
    """

    miou: float
    interval: Interval
    sure: float
    p: float
    per_class: dict[str, float | None]
    class_intervals: dict[str, Interval | None]
    class_p: dict[str, float | None]
    over: str
    units: int
    resamples: int
    trainings: bool  # whether the noise of training is in the interval
    alike: bool  # whether images of too few groups were drawn: the interval is too narrow, p too small
    words: tuple[str, ...]  # what is said of what was drawn, and of the noise of training


class Fold(NamedTuple):
    """The evaluations of two sides on the same images: one record for each seed, at least one a side."""

    first: Sequence[Record]
    second: Sequence[Record]


# --- one evaluation -----------------------------------------------------------------------------------------


def bootstrap(
    record: Record, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Bootstrap:
    """Intervals of mIoU and IoU. The same seed gives the same intervals."""
    units = Units.chosen(record.groups, images=len(record.names), split=record.split)
    member = Member.of(record.class_pixels, units)
    words = [units.words]
    if units.count < 2:
        nothing = dict.fromkeys(record.classes)
        words.append(f"one of the {units.over} alone says nothing of others")
        return Bootstrap(
            Interval(0.0, 1.0), {**nothing}, units.over, units.count, resamples, "; ".join(words)
        )
    total, classes = drawn([Stratum([member], [1.0])], resamples=resamples, seed=seed)
    holding = (member.labelled > 0).sum(axis=0)
    enough = holding >= FEWEST_WITH_CLASS
    few = [name for name, count in zip(record.classes, holding, strict=True) if 0 < count < FEWEST_WITH_CLASS]
    words += few_words(few, units)
    low, high = ends(classes, level, lowest=0.0)
    per_class = {
        name: Interval(float(low[at]), float(high[at])) if enough[at] else None
        for at, name in enumerate(record.classes)
    }
    interval = Interval(*(float(end) for end in ends(total, level, lowest=0.0)))
    return Bootstrap(interval, per_class, units.over, units.count, resamples, "; ".join(words))


def few_words(few: Sequence[str], units: Units) -> list[str]:
    if not few:
        return []
    return [
        f"labelled in fewer than {FEWEST_WITH_CLASS} {units.over}, so without intervals of their own: "
        f"{listed(few, 8)}"
    ]


def ends(found: Drawn, level: float, *, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of what the true value may be, within lowest..1."""
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    return quantiles_of(found.draws, quantiles, lowest=lowest)


def quantiles_of(
    draws: np.ndarray, quantiles: Sequence[float], *, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of draws R or R x C; nan for a class without any."""
    none = np.isnan(draws).all(axis=0)
    low, high = np.nanquantile(np.where(none, 0.0, draws), quantiles, axis=0)
    low, high = (np.where(none, np.nan, np.clip(end, lowest, 1.0)) for end in (low, high))
    return low, high


# --- two sides ----------------------------------------------------------------------------------------------


def difference(
    folds: Sequence[Fold],
    *,
    paired: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """How much the first side is better than the second, and how sure that is: the mean over folds of the
    mean over seeds of mIoU.

    Each resample draws the same images for all; where a side has several seeds, the noise of training is in
    it too. The records of a fold must be of the same images in the same order. paired: the records of both
    sides are, one by one, of the same trainings.
    """
    example = folds[0].first[0]
    units = [
        Units.chosen(one.first[0].groups, images=len(one.first[0].names), split=one.first[0].split)
        for one in folds
    ]
    strata, labelled = [], np.zeros(len(example.classes), np.int64)
    for fold, of in zip(folds, units, strict=True):
        sides = [(fold.first, 1.0), (fold.second, -1.0)]
        members = [Member.of(one.class_pixels, of) for records, _ in sides for one in records]
        factors = [sign / len(records) / len(folds) for records, sign in sides for _ in records]
        labelled += (members[0].labelled > 0).sum(axis=0)
        strata.append(Stratum(members, factors))
    total, classes = drawn(strata, resamples=resamples, seed=seed)
    noise = TrainingNoise.of(folds, units, paired=paired, resamples=resamples, seed=seed)
    value = float(rounded(total.value))
    draws = rounded(noise.added(total, 0))
    class_draws = rounded(noise.added(classes, slice(1, None)))
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    low, high = quantiles_of(draws, quantiles, lowest=-1.0)
    class_low, class_high = quantiles_of(class_draws, quantiles, lowest=-1.0)
    enough, names = labelled >= FEWEST_WITH_CLASS, example.classes
    few = [name for name, there, some in zip(names, labelled, enough, strict=True) if there and not some]
    sure = float(((draws > 0) + 0.5 * (draws == 0)).mean())
    words = [*dict.fromkeys(of.words for of in units), noise.words, *few_words(few, units[0])]
    return Difference(
        miou=value,
        interval=Interval(float(low), float(high)),
        sure=sure,
        p=two_sided(draws),
        per_class={name: float(classes.value[at]) if labelled[at] else None for at, name in enumerate(names)},
        class_intervals={
            name: Interval(float(class_low[at]), float(class_high[at])) if enough[at] else None
            for at, name in enumerate(names)
        },
        class_p={
            name: two_sided(class_draws[:, at]) if enough[at] else None for at, name in enumerate(names)
        },
        over=units[0].over,
        units=sum(of.count for of in units),
        resamples=resamples,
        trainings=noise.degrees > 0,
        alike=any(of.alike for of in units),
        words=tuple(words),
    )


def rounded(values: np.ndarray) -> np.ndarray:
    """Differences without what the order of a sum adds: equal sides are equal."""
    return np.where(np.abs(values) < 1e-12, 0.0, values)


def two_sided(draws: np.ndarray) -> float:
    """The p of no difference: twice the share of draws beyond 0 on the rarer side."""
    draws = draws[~np.isnan(draws)]
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(draws) + 1)))


class TrainingNoise(NamedTuple):
    """The variance of a difference that is seen between seeds, within each side and fold, pooled; of mIoU and
    of each class's IoU, 1 + C. images: the part of it that differs between images, which the bootstrap of
    images has too: it is counted once. degrees: of freedom of the variance.
    """

    variance: np.ndarray
    images: np.ndarray
    degrees: int
    uniform: np.ndarray  # R, in 0..1, in an order of its own
    words: str

    @classmethod
    def of(
        cls, folds: Sequence[Fold], units: Sequence[Units], *, paired: bool, resamples: int, seed: int
    ) -> "TrainingNoise":
        sides = [[scores(one) for one in side] for fold in folds for side in (fold.first, fold.second)]
        if paired:  # one side: what each training gains
            gains = zip(sides[0::2], sides[1::2], strict=True)
            sides = [[one - other for one, other in zip(*pair, strict=True)] for pair in gains]
        degrees = sum(len(side) - 1 for side in sides)
        squares = sum(((np.stack(side) - np.mean(side, axis=0)) ** 2).sum(axis=0) for side in sides)
        shares = sum(1 / len(side) for side in sides) / len(folds) ** 2
        variance = np.asarray(squares) / max(1, degrees) * shares
        images = variance_of_images(folds, units, paired=paired) / max(1, degrees) * shares
        uniform = (np.random.default_rng([seed, 1 << 20]).permutation(resamples) + 0.5) / resamples
        alone = sum(len(side) == 1 for side in sides)
        if paired and not degrees:
            words = "both sides are one training, evaluated in two ways: nothing is said of other trainings"
        elif paired:
            words = (
                "both sides are the same trainings, so the noise of training is that of what each one gains"
            )
        elif not degrees:
            each = "side" if len(folds) == 1 else "side and fold"
            words = f"one run a {each}: the noise of training (another seed) is not in the interval"
        elif alone:
            words = (
                "the noise of training is that of the side with several seeds, and taken to be the same for "
                "the other"
            )
        else:
            words = "the noise of training, from the seeds of both sides, is in the interval"
        return cls(variance, images * (degrees > 0), degrees, uniform, words)

    def added(self, found: Drawn, at: int | slice) -> np.ndarray:
        """What the true difference may be, R or R x C: draws of images, and of Student's t for the seeds,
        because resampling 3 of 3 would make their noise a third too small.
        """
        if not self.degrees:
            return found.draws
        rest = np.sqrt(np.maximum(0.0, found.error**2 - self.images[at]))
        noise = np.multiply.outer(stdtrit(self.degrees, self.uniform), np.sqrt(self.variance[at]))
        return found.value - found.pivots * rest + noise


def variance_of_images(folds: Sequence[Fold], units: Sequence[Units], *, paired: bool) -> np.ndarray:
    """The part of the squared differences between runs of a side, of mIoU and each class, that is of images:
    what runs gain on some and lose on others.
    """
    total: Any = 0.0
    for fold, of in zip(folds, units, strict=True):
        sides = [[[Member.of(one.class_pixels, of)] for one in side] for side in (fold.first, fold.second)]
        if paired:
            sides = [[[*one, *other] for one, other in zip(*sides, strict=True)]]
        for side in sides:
            signs = [1.0, -1.0][: len(side[0])]
            members = [member for run in side for member in run]
            for at in range(len(side) if len(side) > 1 else 0):
                factors = [
                    sign * ((number == at) - 1 / len(side)) for number in range(len(side)) for sign in signs
                ]
                whole = Whole(members, factors)
                total = total + np.array([whole.error, *whole.class_error]) ** 2
    return np.asarray(total)


def scores(record: Record) -> np.ndarray:
    """float64 1 + C: mIoU, and the IoU of each class, 0 where it is neither labelled nor predicted. Raises
    DataError for a record that counts no pixel.
    """
    found = metrics(torch.from_numpy(record.counts.confusion()), record.classes)
    return np.array([found.miou, *(value or 0.0 for value in found.per_class_iou.values())])


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values of several comparisons, adjusted so that the chance of one or more false findings among them
    stays below the level (Holm 1979).
    """
    found, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda one: one[1])):
        largest = max(largest, min(1.0, p * (len(values) - rank)))
        found[name] = largest
    return {name: found[name] for name in values}
