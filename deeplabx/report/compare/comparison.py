"""Entries against a reference: the best of them, or a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deeplabx.errors import ConfigError, listed
from deeplabx.report.compare.entries import Entry, same_trainings
from deeplabx.report.statistics import LEVEL, Difference, Fold, bootstrap, difference, holm

BETTER, WORSE, SAME = "better", "worse", "same"


@dataclass(frozen=True)
class Row:
    """An entry beside the reference. against: its difference to it; None for the reference itself. p: of no
    difference, adjusted for the number of comparisons.
    """

    entry: Entry
    against: Difference | None
    p: float | None

    @property
    def finding(self) -> str:
        if self.against is None or self.p is None or self.p >= 1 - LEVEL:
            return SAME
        return BETTER if self.against.miou > 0 else WORSE

    @property
    def sure(self) -> str:
        """How sure it is that the better one of the two is better."""
        assert self.against is not None
        words = f"{sure_words(max(self.against.sure, 1 - self.against.sure))} sure"
        return f"{words} if its images were not alike" if self.against.alike else words

    def verdict(self, *, baseline: bool) -> str:
        if self.against is None:
            return "baseline" if baseline else "best"
        if self.finding == SAME:
            return f"no difference that these {self.against.units:,} {self.against.over} can show"
        return f"{self.finding}, {self.sure}"


@dataclass(frozen=True)
class Comparison:
    """Rows, best first. baseline: whether the reference was asked for."""

    rows: Sequence[Row]
    baseline: bool
    resamples: int
    seed: int

    @property
    def reference(self) -> Entry:
        return next(one.entry for one in self.rows if one.against is None)

    @property
    def others(self) -> list[Row]:
        return [one for one in self.rows if one.against is not None]


def compared(
    entries: Sequence[Entry], *, baseline: Entry | None = None, resamples: int, seed: int
) -> Comparison:
    """Each entry against the baseline, or against the best. entries: best first."""
    reference = baseline or entries[0]
    found = {
        one.name: difference(
            [Fold(records(one, fold), records(reference, fold)) for fold in reference.folds],
            paired=same_trainings(one, reference),
            resamples=resamples,
            seed=seed,
        )
        for one in entries
        if one is not reference
    }
    adjusted = holm({name: one.p for name, one in found.items()})
    rows = [Row(one, found.get(one.name), adjusted.get(one.name)) for one in entries]
    return Comparison(rows, baseline is not None, resamples, seed)


def records(entry: Entry, fold: Any) -> list[Any]:
    return [one.record for one in entry.of_fold(fold)]


def entry_named(entries: Sequence[Entry], name: str) -> Entry:
    """The entry of a run's folder, or the one whose name has these words. Raises ConfigError."""
    of_folder = [one for one in entries if any(str(run.folder) == name.rstrip("/") for run in one.runs)]
    wanted = set(name.split())
    found = of_folder or [one for one in entries if one.name == name]
    found = found or [one for one in entries if wanted <= set(one.name.split())]
    if len(found) != 1:
        what = "is none of the entries" if not found else f"fits {len(found)} entries"
        raise ConfigError(
            f"baseline={name} {what}",
            hint=f"give a folder that is compared, or one of: {listed([one.name for one in entries], 6)}",
        )
    return found[0]


def sure_words(share: float) -> str:
    """A probability above a half, never shown as certain."""
    if share > 0.999:
        return "more than 99.9 %"
    return f"{100 * share:.1f} %" if share > 0.99 else f"{100 * share:.0f} %"


def interval_of(entry: Entry, *, resamples: int, seed: int) -> tuple[float, float] | None:
    """The interval of the mIoU of an entry that is one run; of several, their spread says more."""
    if len(entry.runs) > 1:
        return None
    found = bootstrap(entry.runs[0].record, resamples=resamples, seed=seed)
    return found.miou


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know of how the numbers were made."""
    others, reference = comparison.others, comparison.reference
    found = [words for one in others if one.against is not None for words in one.against.words]
    lines = [
        f"differences are to {'the baseline' if comparison.baseline else 'the best'}, {reference.name}; "
        f"intervals are of {100 * LEVEL:.0f} %, from {comparison.resamples:,} resamples (seed "
        f"{comparison.seed})"
    ]
    lines += found
    if len(others) > 1:
        lines.append(
            f"p is adjusted for {len(others)} comparisons (Holm): the chance of one false verdict or more is "
            f"at most {100 * (1 - LEVEL):.0f} %; the intervals are not adjusted"
        )
    if not comparison.baseline and len(others) > 1:
        lines.append(
            "the best of several is partly the luckiest: baseline=ENTRY compares with one chosen beforehand"
        )
    machines = {one.entry.machine for one in comparison.rows}
    if not one_machine(comparison):
        known = "; ".join(sorted(one for one in machines if one)) or "unknown"
        lines.append(f"images/s marked * were not all measured on one machine ({known}): do not compare them")
    sizes = {
        (run.cost.get("height"), run.cost.get("width")) for row in comparison.rows for run in row.entry.runs
    }
    if len(sizes - {(None, None)}) > 1:
        lines.append("multiply-adds are of images of different sizes")
    return list(dict.fromkeys(lines))


def one_machine(comparison: Comparison) -> bool:
    machines = {one.entry.machine for one in comparison.rows}
    return len(machines) == 1 and "" not in machines
