"""All findings about a data set, from the facts of its samples and from what opening it reported."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from deeplabx.dataset.check import across_splits, content, files, values
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Example, Finding, Level, number
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.contract import Palette
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError

LEVELS = list(Level)  # errors first
# What the raw values of the masks say better, and with a table.
BY_VALUES = ("no_classes", "colour_mask")


class Split(NamedTuple):
    """A split as it was opened. samples: None where it could not be."""

    name: str
    samples: ReadableSet | None
    problems: list[DataError]


def findings_of(
    splits: Sequence[Split],
    facts: Sequence[Facts],
    *,
    classes: tuple[Sequence[str], Palette] = ((), []),
) -> list[Finding]:
    """The findings, errors first. splits: the first is trained on. classes: names and colours, where the data
    set could not read its table whole.
    """
    opened = [split for split in splits if split.samples is not None]
    by_split: dict[str, list[Facts]] = {split.name: [] for split in opened}
    for one in facts:
        by_split[one.split].append(one)
    found: list[Finding] = []
    stated = stated_of(opened, classes=classes)
    in_order = None if stated is None else values.table_in_order(facts, stated)
    broken = (
        stated is not None
        and not stated.names
        and any(
            problem.kind in ("classes_yaml", "ignore_inside_classes")
            for one in splits
            for problem in one.problems
        )
    )  # a file that has to be mended first: nothing is known about the values
    if stated is not None and in_order is None and not broken:
        found += values.of_values(facts, stated)
    explained = any(finding.details.get("classes_yaml") for finding in found)
    for split in splits:
        left = [one for one in split.problems if not (explained and one.kind in BY_VALUES)]
        found += files.of_problems(
            left, split=split.name, classes_yaml=in_order.to_plain() if in_order else None
        )
        if split.samples is not None:
            found += notes_of(split.samples)
    found += files.of_files(facts)
    found += unexplained(facts, found)
    names = list(opened[0].samples.classes) if opened and opened[0].samples else []
    if not any(finding.level == Level.ERROR for finding in found if finding.files):
        found += across_splits.of_classes(by_split, names)
    # Where the table is wrong, it says nothing about classes and void.
    labelled = [replace(one, pixels=None, no_data={}) for one in facts] if explained else facts
    found += content.of_content(labelled, names)
    found += content.of_order(names)
    parts = [by_split[split.name] for split in opened if by_split[split.name]]
    for part in parts[1:]:
        found += across_splits.of_images(parts[0], part)
    for part in parts:
        found += across_splits.of_split_itself(part)
    found = without_repeated(found)
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def stated_of(opened: Sequence[Split], *, classes: tuple[Sequence[str], Palette]) -> Stated | None:
    """What the data set states about raw values; None where its labels are not files."""
    for split in opened:
        assert split.samples is not None
        if isinstance(split.samples.samples, LabelledFiles):
            return Stated.of(split.samples.samples, classes=classes)
    return None


def notes_of(samples: ReadableSet) -> list[Finding]:
    lines = [samples.note] if samples.note else []
    return [
        Finding("left_out", Level.NOTE, words, "nothing to do, if this is intended")
        for words in samples.left_out
    ] + [Finding("data_set", Level.NOTE, words, "nothing to do") for words in lines]


def unexplained(facts: Sequence[Facts], found: Sequence[Finding]) -> list[Finding]:
    """The values that reading refused where no cause was found."""
    named = {path for finding in found for path in finding.files}
    left = [
        (one, problem)
        for one in facts
        for problem in one.problems
        if problem.kind in files.BY_VALUES and one.label not in named
    ]
    if not left:
        return []
    one, problem = left[0]
    return [
        Finding(
            problem.kind,
            Level.ERROR,
            f"{number(left, 'mask')} that cannot be used, the first: {problem.message}",
            problem.hint or "see docs/data.md",
            files=tuple(other.label for other, _ in left if other.label),
            examples=(Example(one.image, one.label, problem.message),),
        )
    ]


def without_repeated(found: Sequence[Finding]) -> list[Finding]:
    """Two splits report the same about a file that they share."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in found:
        first.setdefault((finding.kind, finding.words.partition(": ")[2] or finding.words), finding)
    return list(first.values())
