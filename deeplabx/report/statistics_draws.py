"""The studentised bootstrap of mean IoUs: of a sum of evaluations of the same images, each with a factor.

For each resample, how far the value is from that of the whole split, in its own standard errors (Efron &
Tibshirani, An Introduction to the Bootstrap, chapter 12). Times the standard error of the jackknife (chapter
11), these quantiles cover the truth as often as they should even where classes are in few images, which
percentiles do not: benchmarks/bootstrap.py measures it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from deeplabx.report.statistics_units import Member

BLOCK = 1 << 22  # numbers of draws of images that are held at a time
# Standard errors that a resample may be away, which in one of few images many times are infinitely many:
# those of Student's t with one degree of freedom at 97.5 %.
FAR = 12.7


class Drawn(NamedTuple):
    """A value, its jackknife standard error, and of each of R resamples the deviation from the value with its
    variance, nan where the resample has no value. Shapes () and R, or C and R x C for classes.
    """

    value: np.ndarray
    error: np.ndarray
    deviation: np.ndarray
    variance: np.ndarray

    @property
    def pivots(self) -> np.ndarray:
        """Deviations in standard errors of their resamples."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.deviation / np.sqrt(self.variance)
        found = np.where(self.deviation == 0, 0.0, found)
        return np.clip(found, -FAR, FAR)

    @property
    def draws(self) -> np.ndarray:
        """What the true value may be, R or R x C: its quantiles are the ends of intervals."""
        return self.value - self.pivots * self.error


class Stratum(NamedTuple):
    """Evaluations of the same units, and the factor of each one's mean IoU in the sum."""

    members: Sequence[Member]
    factors: Sequence[float]


def drawn(strata: Sequence[Stratum], *, resamples: int, seed: int) -> tuple[Drawn, Drawn]:
    """The sum over all strata: of mean IoU, and of the IoU of each class over the strata that label it. Each
    stratum's units are drawn by themselves.
    """
    parts = [
        of_stratum(one, resamples=resamples, generator=np.random.default_rng([seed, number]))
        for number, one in enumerate(strata)
    ]
    values, errors, deviations, variances = (
        np.sum([part[at] ** (2 if at == 1 else 1) for part, _ in parts], axis=0) for at in range(4)
    )
    total = Drawn(values, np.sqrt(errors), deviations, variances)
    return total, of_classes([one for _, one in parts])


def of_classes(parts: Sequence[Drawn]) -> Drawn:
    """The sum of strata for each class; of a class that some strata do not label, that of the others, scaled
    to their number.
    """
    if len(parts) == 1:
        return parts[0]
    labelled = np.stack([np.isfinite(one.value) for one in parts])
    scale = len(parts) / np.maximum(labelled.sum(axis=0), 1)
    nowhere = ~labelled.any(axis=0)

    def added(arrays: Sequence[np.ndarray], factor: np.ndarray) -> np.ndarray:
        total = np.zeros_like(arrays[0])
        for array, there in zip(arrays, labelled, strict=True):
            total = total + np.where(there, array, 0.0)
        return np.where(nowhere, np.nan, total * factor)

    return Drawn(
        added([one.value for one in parts], scale),
        np.sqrt(added([one.error**2 for one in parts], scale**2)),
        added([one.deviation for one in parts], scale),
        added([one.variance for one in parts], scale**2),
    )


def of_stratum(stratum: Stratum, *, resamples: int, generator: np.random.Generator) -> tuple[Drawn, Drawn]:
    members, factors = stratum
    whole = Resampled(members, factors)
    found: list[list[np.ndarray]] = [[], [], [], []]
    for weights in blocks(len(members[0].hits), resamples=resamples, generator=generator):
        for into, values in zip(found, whole.resampled(weights), strict=True):
            into.append(values)
    deviation, variance, class_deviation, class_variance = (np.concatenate(values) for values in found)
    return (
        Drawn(np.asarray(whole.value), np.asarray(whole.error), deviation, variance),
        Drawn(whole.class_value, whole.class_error, class_deviation, class_variance),
    )


def blocks(units: int, *, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each unit is drawn: float64 B x U, resamples of them in all. The same for all evaluations."""
    most = max(1, BLOCK // units)
    for first in range(0, resamples, most):
        number = min(most, resamples - first)
        chosen = generator.integers(0, units, (number, units))
        chosen += np.arange(number)[:, None] * units
        counts = np.bincount(chosen.ravel(), minlength=number * units)
        yield counts.reshape(number, units).astype(np.float64)


class Whole:
    """A stratum as it is: the sum, that of each class, and their jackknife standard errors.

    A class that is predicted but never labelled counts 0, as in the mIoU of the split.
    """

    def __init__(self, members: Sequence[Member], factors: Sequence[float]) -> None:
        self.members, self.factors = members, np.asarray(factors, np.float64)
        self.units, self.classes = members[0].hits.shape
        self.small = self.units / max(1, self.units - 1)  # of variances
        self.labelled = members[0].labelled.sum(axis=0) > 0
        self.totals = [one.union.sum(axis=0) for one in members]
        self.seen = [self.labelled | (total > 0) for total in self.totals]
        self.iou = [
            np.where(seen, one.hits.sum(axis=0) / np.maximum(total, 1), 0.0)
            for one, total, seen in zip(members, self.totals, self.seen, strict=True)
        ]
        mious = [iou.sum() / max(1, seen.sum()) for iou, seen in zip(self.iou, self.seen, strict=True)]
        self.value = float(self.factors @ mious)
        self.class_value = np.where(self.labelled, self.factors @ np.stack(self.iou), np.nan)
        self.error, self.class_error = self.jackknife()

    def jackknife(self) -> tuple[float, np.ndarray]:
        """Standard errors of the sum, and of that of each class: at least those of the delta method, which
        takes small units for granted. Without a unit that alone has a class, the mIoU of one evaluation is
        over the other classes; a difference of two has lost it on both sides.
        """
        influence, delta = np.zeros(self.units), np.zeros(self.units)
        of_class, delta_of_class = np.zeros((2, self.units, self.classes))
        labelled = self.members[0].labelled
        rest = (labelled.sum(axis=0) - labelled > 0) | ~self.labelled
        for one, factor, iou, total, seen in zip(
            self.members, self.factors, self.iou, self.totals, self.seen, strict=True
        ):
            change = one.hits - iou * one.union
            without = np.where(rest, change / np.maximum(total - one.union, 1), 0.0)
            linear = change / np.maximum(total, 1)
            of_class += factor * without
            delta_of_class += factor * linear
            kept = seen & (rest if len(self.members) == 1 else np.ones_like(rest))
            others = np.where(kept, iou - without, 0.0).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
            influence += factor * (iou.sum() / max(1, seen.sum()) - others)
            delta += factor * linear.sum(axis=1) / max(1, seen.sum())

        def error(values: np.ndarray, linear: np.ndarray) -> np.ndarray:
            values = values - values.mean(axis=0)
            jackknife = (values**2).sum(axis=0) / self.small
            return np.sqrt(np.maximum(jackknife, (linear**2).sum(axis=0) * self.small))

        return float(error(influence, delta)), error(of_class, delta_of_class)


class Resampled(Whole):
    """A stratum, prepared for its resamples.

    A class that the split labels and a resample does not is left out of that resample, which is compared
    with the mean over the same classes of the split: else mIoU would jump with the classes that it has.
    """

    def __init__(self, members: Sequence[Member], factors: Sequence[float]) -> None:
        super().__init__(members, factors)
        self.hits = [sparse.csr_array(one.hits) for one in members]
        self.union = [sparse.csr_array(one.union) for one in members]
        self.moments = [self.moments_of(number) for number in range(self.classes)]

    def moments_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The units in which a class is labelled or predicted by any, and of each: its labelled pixels, hits
        and unions of the members, and all products of two of those.
        """
        columns = np.stack(
            [values[:, number] for one in self.members for values in (one.hits, one.union)], axis=1
        )
        there = np.flatnonzero(columns.any(axis=1))
        columns = columns[there]
        first, second = np.triu_indices(columns.shape[1])
        labelled = self.members[0].labelled[there, number]
        return there, np.column_stack([labelled, columns, columns[:, first] * columns[:, second]])

    def resampled(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Deviation and variance of the sum, R each, and of each class, R x C."""
        count, number = len(self.members), len(weights)
        iou, inverse = np.zeros((2, count, number, self.classes))
        there = np.zeros((number, self.classes), bool)
        variance = np.zeros((number, self.classes))
        for at, (rows, columns) in enumerate(self.moments):
            sums = weights[:, rows] @ columns
            there[:, at] = (sums[:, 0] > 0) | ~self.labelled[at]
            hits, union = sums[:, 1 : 2 * count + 1 : 2], sums[:, 2 : 2 * count + 2 : 2]
            inverse[:, :, at] = np.where(union > 0, 1 / np.maximum(union, 1), 0.0).T
            iou[:, :, at] = hits.T * inverse[:, :, at]
            # of hits and union of each member, in the sum over a resample's units of the squared change
            linear = np.empty((number, 2 * count))
            linear[:, 0::2] = (self.factors[:, None] * inverse[:, :, at]).T
            linear[:, 1::2] = -linear[:, 0::2] * iou[:, :, at].T
            first, second = np.triu_indices(2 * count)
            twice = np.where(first == second, 1.0, 2.0)
            products = linear[:, first] * linear[:, second] * twice
            variance[:, at] = (products * sums[:, 2 * count + 1 :]).sum(axis=1)
        class_deviation = np.tensordot(self.factors, iou, axes=1) - self.class_value
        class_deviation = np.where(there & self.labelled, class_deviation, np.nan)
        deviation, change = np.zeros(number), np.zeros((self.units, number))
        for at, factor in enumerate(self.factors):
            chosen = there & self.seen[at]
            mean = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
            deviation += factor * ((iou[at] - self.iou[at]) * mean).sum(axis=1)
            each = factor * mean * inverse[at]
            change += self.hits[at] @ each.T - self.union[at] @ (each * iou[at]).T
        change *= change
        total = np.einsum("ru,ur->r", weights, change)
        return (
            np.where(there.any(axis=1), deviation, np.nan),
            np.maximum(total, 0) * self.small,
            class_deviation,
            np.maximum(variance, 0) * self.small,
        )
