"""What is compared: evaluations, gathered into entries that differ in more than the seed or the fold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.engine.record.record import Record
from deeplabx.errors import ConfigError, DataError, listed, quoted
from deeplabx.report.repeats import FOLD, SEED, mean_over_folds, spread_of_runs
from deeplabx.report.statistics import scores

EXPORTED, STEP, FOLDER = "exported", "step", "folder"  # what no config has
NUMBERS = ("parameters", "multiply_adds", "images_per_second", "peak_memory")  # of cost.json


@dataclass(frozen=True)
class Evaluated:
    """A folder of an evaluation. settings: flat, by dotted key; cost: of cost.json, {} without it."""

    folder: Path
    record: Record
    settings: Mapping[str, Any]
    cost: Mapping[str, Any] = field(default_factory=dict)
    of_run: bool = True  # by `deeplabx train`; else by `deeplabx eval`

    @property
    def seed(self) -> Any:
        return self.settings.get(SEED)

    @property
    def fold(self) -> Any:
        return self.settings.get(FOLD)

    @cached_property
    def miou(self) -> float:
        return float(scores(self.record)[0])


@dataclass(frozen=True)
class Entry:
    """Evaluations that differ in seed and fold alone. settings: those that differ between entries."""

    name: str
    settings: Mapping[str, Any]
    runs: Sequence[Evaluated]

    @property
    def folds(self) -> list[Any]:
        return list(dict.fromkeys(one.fold for one in self.runs))

    def of_fold(self, fold: Any) -> list[Evaluated]:
        """By seed."""
        return sorted((one for one in self.runs if one.fold == fold), key=lambda one: repr(one.seed))

    @property
    def miou(self) -> float:
        """The mean over folds of the mean over seeds."""
        return mean_over_folds((one.fold, one.miou) for one in self.runs)

    @property
    def std(self) -> float | None:
        return spread_of_runs([one.miou for one in self.runs])

    def cost(self, name: str) -> float | None:
        """The mean over runs; None where one does not say it."""
        found = [one.cost.get(name) for one in self.runs]
        numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
        return float(np.mean(numbers)) if numbers and len(numbers) == len(found) else None

    @property
    def machine(self) -> str:
        """Where its images per second were measured; "" where that is unknown or not one machine."""
        found = {(one.cost.get("device", ""), one.cost.get("threads", 0)) for one in self.runs}
        (device, threads), *others = found
        if others or not device:
            return ""
        return f"{device}, {threads} thread{'' if threads == 1 else 's'}"


# --- entries ------------------------------------------------------------------------------------------------


def entries_of(evaluated: Sequence[Evaluated], *, ignored: Sequence[str] = ()) -> list[Entry]:
    """Entries, best first. ignored: settings that change nothing about the result.

    Raises ConfigError where there is nothing to compare: fewer than two entries.
    """
    if len(evaluated) < 2:
        raise ConfigError(
            f"{evaluated[0].folder} is one evaluation, and a comparison needs two or more",
            hint="deeplabx compare RUN RUN, or the folder of a sweep",
        )
    kinds = {one.of_run for one in evaluated}
    # `eval` replaces the precision that a run was trained with by its own.
    unlike = [*ignored, *(["trainer.precision"] if len(kinds) > 1 else [])]
    groups: dict[tuple[tuple[str, str], ...], list[Evaluated]] = {}
    for one in evaluated:
        groups.setdefault(key_of(one, unlike), []).append(one)
    separated = [one for group in groups.values() for one in apart(group)]
    groups = {}
    for one in separated:
        groups.setdefault(key_of(one, unlike), []).append(one)
    if len(groups) < 2:
        runs = separated
        spread = spread_of_runs([one.miou for one in runs])
        raise ConfigError(
            f"the {len(runs)} runs differ in seed or fold alone, so there is nothing to compare: mIoU "
            f"{mean_over_folds((one.fold, one.miou) for one in runs):.4f} ± {spread:.4f}",
            hint="give runs with other settings too",
        )
    varying = varying_settings([dict(key) for key in groups])
    found = []
    for key, runs in groups.items():
        settings = {name: runs[0].settings.get(name) for name in varying if name in dict(key)}
        found.append(Entry(name_of(settings) or str(runs[0].folder), settings, runs))
    refuse_other_folds(found)
    return sorted(found, key=lambda one: (-one.miou, one.name))


def key_of(one: Evaluated, ignored: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The settings that tell entries apart, as texts."""
    left_out = {SEED, FOLD, *ignored}
    return tuple(sorted((name, repr(value)) for name, value in one.settings.items() if name not in left_out))


def apart(group: Sequence[Evaluated]) -> list[Evaluated]:
    """Evaluations with the same settings: where two have the same seed and fold, they are separated by step
    or, if that is the same, by folder.
    """
    if len({(repr(one.seed), repr(one.fold)) for one in group}) == len(group):
        return list(group)
    steps = {(repr(one.seed), repr(one.fold), one.record.step) for one in group}
    if len(steps) == len(group):
        return [replace(one, settings={**one.settings, STEP: one.record.step}) for one in group]
    return [replace(one, settings={**one.settings, FOLDER: str(one.folder)}) for one in group]


def varying_settings(keys: Sequence[Mapping[str, str]]) -> list[str]:
    """The settings whose values differ between entries, options of groups first. Settings of an option that
    other entries do not have follow from it, and are left out.
    """
    names = dict.fromkeys(name for key in keys for name in key)
    differing = [name for name in names if len({key.get(name, "") for key in keys}) > 1]
    chosen = {name.removesuffix(".name") for name in differing if name.endswith(".name")}

    def follows(name: str) -> bool:
        group = name.rpartition(".")[0]
        everywhere = all(name in key for key in keys)
        return group in chosen and not name.endswith(".name") and not everywhere

    kept = [name for name in differing if not follows(name)]
    return sorted(kept, key=lambda name: (not name.endswith(".name"), name))


def name_of(settings: Mapping[str, Any]) -> str:
    """Settings as on a command line."""
    return " ".join(
        f"{name.removesuffix('.name')}={'no' if name == EXPORTED and value is None else value_words(value)}"
        for name, value in settings.items()
    )


def value_words(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(value_words, value))}]"
    if isinstance(value, dict):  # without what is unset
        said = {name: one for name, one in value.items() if one is not None}
        return "{" + ",".join(f"{name}:{value_words(one)}" for name, one in said.items()) + "}"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return str(value)


def refuse_other_folds(entries: Sequence[Entry]) -> None:
    """Raise DataError unless all entries have the same folds."""
    first = entries[0]
    for other in entries[1:]:
        if set(map(repr, other.folds)) != set(map(repr, first.folds)):
            raise DataError(
                f"{first.name} has {fold_words(first)}, {other.name} {fold_words(other)}",
                hint="compare entries that have the same folds",
            )


def fold_words(entry: Entry) -> str:
    if entry.folds == [None]:
        return "no fold"
    folds = sorted(str(fold) for fold in entry.folds)
    return f"fold{'' if len(folds) == 1 else 's'} {listed(folds, 10)}"


def same_trainings(first: Entry, second: Entry) -> bool:
    """Whether runs of one seed are one training, evaluated in two ways."""
    names = {*first.settings, *second.settings}
    differ = [one for one in names if repr(first.settings.get(one)) != repr(second.settings.get(one))]
    seeds = [sorted((repr(one.seed), repr(one.fold)) for one in entry.runs) for entry in (first, second)]
    return seeds[0] == seeds[1] and all(one.startswith("eval.") or one == EXPORTED for one in differ)


# --- the same images ----------------------------------------------------------------------------------------


def alike(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """The evaluations with their images in the order of the first of their fold.

    Raises DataError, naming what differs, unless all are of one data set, split, classes, and within each
    fold of the same images with the same labels.
    """
    first = evaluated[0]
    for one in evaluated:
        if len(one.record.names) < 2:
            raise DataError(
                f"{one.folder} is an evaluation of one image, which says nothing of others",
                hint="compare on a split, or with folds, of two images or more",
            )
    found: list[Evaluated] = []
    of_fold: dict[str, Evaluated] = {}
    for one in evaluated:
        for what, mine, theirs in (
            ("data set", first.record.dataset, one.record.dataset),
            ("split", first.record.split, one.record.split),
        ):
            if mine != theirs:
                raise other(f"of {what} {quoted(mine)} and {quoted(theirs)}", first, one)
        if first.record.classes != one.record.classes:
            raise other(f"of different classes: {class_words(first.record, one.record)}", first, one)
        reference = of_fold.setdefault(repr(one.fold), one)
        found.append(one if one is reference else in_order_of(reference, one))
    return [replace(one, record=replace(one.record, groups=groups_of(found, one))) for one in found]


def groups_of(evaluated: Sequence[Evaluated], one: Evaluated) -> list[str] | None:
    """The groups of the images of a fold: those of the first evaluation that says them."""
    of_fold = (other.record.groups for other in evaluated if repr(other.fold) == repr(one.fold))
    return next((groups for groups in of_fold if groups is not None), None)


def other(words: str, first: Evaluated, second: Evaluated) -> DataError:
    return DataError(
        f"{first.folder} and {second.folder} are {words}",
        hint="evaluate both on the same split: deeplabx eval RUN dataset.split=SPLIT",
    )


def class_words(first: Record, second: Record) -> str:
    if len(first.classes) != len(second.classes):
        return f"{len(first.classes)} and {len(second.classes)}"
    pair = next(pair for pair in zip(first.classes, second.classes, strict=True) if pair[0] != pair[1])
    return f"{quoted(pair[0])} and {quoted(pair[1])}"


def in_order_of(reference: Evaluated, one: Evaluated) -> Evaluated:
    """`one` with its images in the order of `reference`."""
    mine, theirs = reference.record, one.record
    extra, missing = set(theirs.names) - set(mine.names), set(mine.names) - set(theirs.names)
    if extra or missing or len(mine.names) != len(theirs.names):
        example = next(iter(sorted(missing or extra)), theirs.names[0] if theirs.names else "")
        where = reference.folder if missing else one.folder
        raise other(
            f"of different images ({len(mine.names):,} and {len(theirs.names):,}): {quoted(example)} is in "
            f"{where} alone",
            reference,
            one,
        )
    if len(set(mine.names)) < len(mine.names):
        raise other("of images with the same names, which cannot be paired", reference, one)
    places = {name: at for at, name in enumerate(theirs.names)}
    order = np.array([places[name] for name in mine.names], np.int64)
    if (order != np.arange(len(order))).any():
        theirs = reordered(theirs, order)
    if (mine.sizes != theirs.sizes).any():
        at = int(np.flatnonzero((mine.sizes != theirs.sizes).any(axis=1))[0])
        raise other(f"of images of different sizes, the first {quoted(mine.names[at])}", reference, one)
    labels = (mine.class_pixels.labelled != theirs.class_pixels.labelled).any(axis=1)
    if labels.any():
        at = int(np.flatnonzero(labels)[0])
        raise other(
            f"of {int(labels.sum()):,} images whose labels differ, the first {quoted(mine.names[at])}",
            reference,
            one,
        )
    return replace(one, record=theirs)


def reordered(record: Record, order: np.ndarray) -> Record:
    """The images `order` of a record."""
    counts = record.counts
    at = np.argsort(np.argsort(order))[counts.image]  # the new place of each cell's image
    cells = np.argsort(at, kind="stable")
    return replace(
        record,
        names=[record.names[one] for one in order],
        groups=None if record.groups is None else [record.groups[one] for one in order],
        indices=record.indices[order],
        sizes=record.sizes[order],
        counts=replace(counts, image=at[cells], cell=counts.cell[cells], pixels=counts.pixels[cells]),
    )
