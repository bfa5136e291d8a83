"""Runs that repeat one another: they differ in seed and fold alone, and count as one entry of a table."""

from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean, stdev

SEED, FOLD = "seed", "dataset.fold"  # the settings in which they differ


def mean_over_folds(mious: Iterable[tuple[Hashable, float]]) -> float:
    """The mean over folds of the mean over seeds, of pairs of fold and mIoU: each fold counts once, however
    many seeds it has.
    """
    folds: dict[Hashable, list[float]] = {}
    for fold, miou in mious:
        folds.setdefault(fold, []).append(miou)
    return fmean(map(fmean, folds.values()))


def spread_of_runs(mious: Sequence[float]) -> float | None:
    """The sample standard deviation over all runs; None for one run."""
    return stdev(mious) if len(mious) > 1 else None
