"""Whether the intervals of `deeplabx report` and `compare` hold what they promise: how often 95 % intervals
cover a truth that is known, and the same numbers from a plain loop and from scipy.stats.bootstrap.

    python -m benchmarks.bootstrap [SIMULATIONS]

A population of images is made up: classes of different frequency, size and difficulty, images or groups of
images that are easier or harder, errors that go to other classes. The truth is a sample of 120,000 images.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from deeplabx.engine.record.counts import ClassPixels, ImageCounts
from deeplabx.engine.record.record import Record
from deeplabx.report.statistics import Fold, bootstrap, difference

SIMULATIONS = 200
RESAMPLES = 1000
TRUTH = 120_000


class Population(NamedTuple):
    """What images are drawn from. Of each class: how often it is there, its pixels, how well it is found."""

    presence: np.ndarray
    size: np.ndarray
    skill: np.ndarray
    frames: int  # images of a group, which are alike

    @classmethod
    def made(cls, rng: np.random.Generator, *, classes: int, rare: float, frames: int) -> "Population":
        """rare: share of the classes that are in 3 to 15 % of the images; the others are in 30 to 95 %."""
        presence = np.sort(rng.uniform(0.3, 0.95, classes))[::-1].copy()
        number = int(rare * classes)
        presence[classes - number :] = np.geomspace(0.15, 0.03, number)
        presence[0] = 1.0
        size = np.exp(rng.normal(0, 1, classes)) * 1000
        size[0] = 8000
        return cls(presence, size, rng.uniform(0.3, 0.95, classes), frames)


class Scenes(NamedTuple):
    """What all models see of N images: labelled pixels N x C, how hard each is, where errors may go."""

    labelled: np.ndarray
    hard: np.ndarray  # N x C, on the scale of log odds
    present: np.ndarray
    groups: np.ndarray


def drawn_scenes(of: Population, rng: np.random.Generator, *, units: int) -> Scenes:
    group = np.repeat(np.arange(units), of.frames)
    shape = (len(group), len(of.presence))
    present = rng.random(shape) < of.presence
    hard = rng.normal(0, 0.5, (len(group), 1)) + rng.normal(0, 0.5, shape)
    larger = np.zeros(shape)
    if of.frames > 1:  # most of what an image is, its group is
        of_group = rng.random((units, shape[1])) < of.presence
        present = np.where(rng.random(shape) < 0.1, present, of_group[group])
        hard = hard + rng.normal(0, 0.6, (units, shape[1]))[group]
        larger = rng.normal(0, 0.4, (units, shape[1]))[group]
    present[:, 0] = True
    labelled = np.ceil(present * of.size * np.exp(larger + rng.normal(0, 0.8, shape)))
    return Scenes(labelled, hard, present, group)


def evaluated(
    scenes: Scenes, skill: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, labelled and predicted pixels N x C of a model with these skills."""
    odds = np.log(skill / (1 - skill)) + scenes.hard + rng.normal(0, 0.5, scenes.labelled.shape)
    hits = np.round(scenes.labelled / (1 + np.exp(-odds)))
    missed = (scenes.labelled - hits).sum(axis=1, keepdims=True)
    often = np.where(scenes.present, 1.0, 0.1)
    share = (scenes.present + 0.02) * rng.gamma(1.0, 1.0, often.shape) * (rng.random(often.shape) < often)
    share[:, 0] += 1e-6
    wrong = np.floor(missed * share / share.sum(axis=1, keepdims=True))
    wrong[:, 0] += missed[:, 0] - wrong.sum(axis=1)
    return hits, scenes.labelled, hits + wrong


@dataclass(frozen=True)
class Summed(Record):
    """A record that has the sums of its matrices alone."""

    pixels: ClassPixels

    @property
    def class_pixels(self) -> ClassPixels:
        return self.pixels


def record_of(pixels: Sequence[np.ndarray], groups: np.ndarray | None) -> Summed:
    hits, labelled, predicted = (values.astype(np.int64) for values in pixels)
    count, classes = hits.shape
    return Summed(
        classes=[f"class {number}" for number in range(classes)],
        palette=[(0, 0, 0)] * classes,
        ignore_index=255,
        dataset="made up",
        split="val",
        step=0,
        names=[f"{number}" for number in range(count)],
        groups=None if groups is None else [f"{one}" for one in groups],
        indices=np.arange(count),
        sizes=np.full((count, 2), 100),
        counts=ImageCounts.of([], num_classes=classes),
        details=None,
        pixels=ClassPixels(hits, labelled, predicted),
    )


# --- coverage -----------------------------------------------------------------------------------------------


class Case(NamedTuple):
    units: int
    frames: int
    classes: int
    rare: float
    seeds: int = 1  # trainings a side
    noise: float = 0.0  # of training: standard deviation of a class's skill, in log odds

    @property
    def words(self) -> str:
        what = f"{self.units} images" if self.frames == 1 else f"{self.units} groups of {self.frames}"
        rare = f", {int(self.rare * self.classes)} rare" if self.rare else ""
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{what}, {self.classes} classes{rare}{seeds}"


SINGLE = [
    Case(50, 1, 4, 0.0),
    Case(50, 1, 21, 0.4),
    Case(150, 1, 21, 0.4),
    Case(500, 1, 21, 0.4),
    Case(100, 1, 60, 0.5),
    Case(12, 20, 11, 0.3),
    Case(25, 10, 11, 0.3),
    Case(50, 10, 21, 0.3),
]
PAIRED = [
    Case(50, 1, 21, 0.4),
    Case(200, 1, 21, 0.4),
    Case(500, 1, 4, 0.0),
    Case(25, 10, 11, 0.3),
    Case(200, 1, 11, 0.2, seeds=2, noise=0.15),
    Case(200, 1, 11, 0.2, seeds=3, noise=0.15),
    Case(200, 1, 11, 0.2, seeds=5, noise=0.15),
    Case(25, 10, 11, 0.3, seeds=3, noise=0.15),
]


def shifted(skill: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-(np.log(skill / (1 - skill)) + by)))


def true_ious(of: Population, skill: np.ndarray, rng: np.random.Generator, *, noise: float) -> np.ndarray:
    """The IoU of each class over TRUTH images, the mean over as many trainings as there are samples."""
    found, parts = [], 60
    for _ in range(parts):
        scenes = drawn_scenes(of, rng, units=max(1, TRUTH // parts // of.frames))
        trained = shifted(skill, rng.normal(0, noise, len(skill)))
        pixels = evaluated(scenes, trained, rng)
        found.append(np.stack([values.sum(axis=0) for values in pixels]))
    if not noise:
        hits, labelled, predicted = np.sum(found, axis=0)
        return np.asarray(hits / (labelled + predicted - hits))
    return np.mean([one[0] / (one[1] + one[2] - one[0]) for one in found], axis=0)


class Counted(NamedTuple):
    """Of simulations: shares of covering intervals, and the mean width of that of mIoU."""

    miou: float
    classes: float
    width: float
    percentile: float  # what percentiles of the resamples would have covered
    all_classes: float  # of the mIoU of all classes, those that a split does not label too


def coverage_of_one(case: Case, *, simulations: int) -> Counted:
    rng = np.random.default_rng(1)
    of = Population.made(rng, classes=case.classes, rare=case.rare, frames=case.frames)
    truth = true_ious(of, of.skill, rng, noise=0.0)
    rows = []
    for number in range(simulations):
        scenes = drawn_scenes(of, rng, units=case.units)
        pixels = evaluated(scenes, of.skill, rng)
        record = record_of(pixels, scenes.groups if case.frames > 1 else None)
        found = bootstrap(record, resamples=RESAMPLES, seed=number)
        inside = [
            one.low <= true <= one.high
            for one, true in zip(found.per_class.values(), truth, strict=True)
            if one is not None
        ]
        low, high = percentiles(pixels, scenes.groups, seed=number)
        # A split says nothing of classes that it does not label: the truth is that of the others. A class
        # that is predicted alone counts 0 in mIoU.
        totals = [values.sum(axis=0) for values in pixels]
        mean = truth[totals[1] > 0].sum() / ((totals[1] > 0) | (totals[2] > 0)).sum()
        covers, width = found.miou.low <= mean <= found.miou.high, found.miou.high - found.miou.low
        of_all = found.miou.low <= truth.mean() <= found.miou.high
        rows.append([covers, np.mean(inside), width, low <= mean <= high, of_all])
    return Counted(*(float(one) for one in np.mean(rows, axis=0)))


def percentiles(pixels: Sequence[np.ndarray], groups: np.ndarray, *, seed: int) -> tuple[float, float]:
    """The plain percentile interval of mIoU, over groups."""
    sums = [np.stack([np.bincount(groups, one) for one in values.T], axis=1) for values in pixels]
    rng = np.random.default_rng(seed)
    units = len(sums[0])
    found = []
    for _ in range(RESAMPLES // 2):
        chosen = rng.integers(0, units, units)
        hits, labelled, predicted = (one[chosen].sum(axis=0) for one in sums)
        union = labelled + predicted - hits
        found.append((hits[union > 0] / union[union > 0]).mean())
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def coverage_of_pairs(case: Case, *, simulations: int) -> Counted:
    rng = np.random.default_rng(2)
    of = Population.made(rng, classes=case.classes, rare=case.rare, frames=case.frames)
    better = shifted(of.skill, rng.normal(0.1, 0.2, case.classes))
    truth = true_ious(of, better, rng, noise=case.noise) - true_ious(of, of.skill, rng, noise=case.noise)
    rows = []
    for number in range(simulations):
        scenes = drawn_scenes(of, rng, units=case.units)
        groups = scenes.groups if case.frames > 1 else None
        sides = [
            [
                record_of(
                    evaluated(scenes, shifted(skill, rng.normal(0, case.noise, case.classes)), rng), groups
                )
                for _ in range(case.seeds)
            ]
            for skill in (better, of.skill)
        ]
        found = difference([Fold(*sides)], resamples=RESAMPLES, seed=number)
        inside = [
            one.low <= true <= one.high
            for one, true in zip(found.class_intervals.values(), truth, strict=True)
            if one is not None
        ]
        covers = found.interval.low <= truth.mean() <= found.interval.high
        rows.append([covers, np.mean(inside), found.interval.high - found.interval.low, np.nan, np.nan])
    return Counted(*(float(one) for one in np.mean(rows, axis=0)))


def false_findings(*, simulations: int) -> float:
    """How often two equal models differ with p < 0.05."""
    rng = np.random.default_rng(3)
    of = Population.made(rng, classes=11, rare=0.2, frames=1)
    found = 0
    for number in range(2 * simulations):
        scenes = drawn_scenes(of, rng, units=150)
        one, other = (record_of(evaluated(scenes, of.skill, rng), None) for _ in range(2))
        found += difference([Fold([one], [other])], resamples=RESAMPLES, seed=number).p < 0.05
    return found / simulations / 2


# --- the same by others -------------------------------------------------------------------------------------


def compared_with_others() -> None:
    rng = np.random.default_rng(4)
    of = Population.made(rng, classes=8, rare=0.0, frames=1)
    scenes = drawn_scenes(of, rng, units=300)
    first = evaluated(scenes, shifted(of.skill, 0.15), rng)
    second = evaluated(scenes, of.skill, rng)

    def miou(hits: np.ndarray, labelled: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        union = labelled + predicted - hits
        return np.asarray((hits / union).mean(axis=-1))

    def gain(chosen: np.ndarray, axis: int = -1) -> np.ndarray:
        """Of images chosen, ... x N."""
        del axis
        chosen = chosen.astype(int)
        a, b = ([values[chosen].sum(axis=-2) for values in pixels] for pixels in (first, second))
        return miou(*a) - miou(*b)

    own = difference([Fold([record_of(first, None)], [record_of(second, None)])], resamples=10_000)
    images = np.arange(300)
    print(f"difference of mIoU on 300 images, own           {own.miou:+.4f}  {shown(*own.interval)}")
    for method in ("percentile", "BCa"):
        theirs = stats.bootstrap(
            (images,), gain, n_resamples=10_000, method=method, vectorized=True, batch=500, rng=5
        )
        ends = theirs.confidence_interval
        print(f"  scipy.stats.bootstrap, {method:<10}                    {shown(ends.low, ends.high)}")
    print(f"  a loop, studentised, jackknife in each resample       {shown(*looped(first, second))}")


def looped(first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, resamples: int = 500) -> list[float]:
    """The same method without any of its algebra: each resample is jackknifed image by image."""
    rng = np.random.default_rng(6)

    def gain(chosen: list[int]) -> float:
        values = []
        for pixels in (first, second):
            hits, labelled, predicted = (one[chosen].sum(axis=0) for one in pixels)
            values.append((hits / (labelled + predicted - hits)).mean())
        return float(values[0] - values[1])

    def error(chosen: list[int]) -> float:
        left_out = [gain(chosen[:at] + chosen[at + 1 :]) for at in range(len(chosen))]
        return float(np.sqrt(np.var(left_out) * (len(chosen) - 1)))

    images = list(range(len(first[0])))
    value, pivots = gain(images), []
    for _ in range(resamples):
        chosen = rng.choice(images, len(images)).tolist()
        pivots.append((gain(chosen) - value) / error(chosen))
    return [value - float(np.quantile(pivots, end)) * error(images) for end in (0.975, 0.025)]


def shown(low: float, high: float) -> str:
    return f"{low:+.4f} to {high:+.4f}"


def main(simulations: int) -> None:
    print(f"coverage of 95 % intervals in {simulations} simulations, {RESAMPLES} resamples each")
    head = f"  {'one evaluation':<40} {'mIoU':>6} {'classes':>8} {'width':>7} "
    print(f"{head}{'percentile':>11} {'all classes':>11}")
    for case in SINGLE:
        started = time.perf_counter()
        found = coverage_of_one(case, simulations=simulations)
        print(
            f"  {case.words:<40} {found.miou:6.1%} {found.classes:8.1%} {found.width:7.4f} "
            f"{found.percentile:11.1%} {found.all_classes:11.1%}   {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    print(f"  {'difference of two':<40} {'mIoU':>6} {'classes':>8} {'width':>7}")
    for case in PAIRED:
        started = time.perf_counter()
        found = coverage_of_pairs(case, simulations=simulations)
        print(
            f"  {case.words:<40} {found.miou:6.1%} {found.classes:8.1%} {found.width:7.4f} "
            f"   {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    false = false_findings(simulations=simulations)
    print(f"  two equal models, 150 images, 11 classes: p < 0.05 in {false:.1%}", flush=True)
    compared_with_others()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SIMULATIONS)
