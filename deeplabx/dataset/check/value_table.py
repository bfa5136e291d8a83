"""What raw values of masks mean, and a finding about them with the table that would be right."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import SHOWN, Example, Finding, Level, number
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.labels import packed, unpacked
from deeplabx.errors import listed

Raw = int  # an id, or a packed colour


class Table(NamedTuple):
    """What the raw values mean: a class name, or `ignore`, for each."""

    names: list[str]
    meaning: dict[Raw, str]
    by_colour: bool

    def to_plain(self) -> dict[str, Any]:
        """The content of a classes.yaml."""
        shown = {
            ",".join(map(str, unpacked(raw))) if self.by_colour else raw: name
            for raw, name in sorted(self.meaning.items())
        }
        return {"classes": self.names, "label_map": shown}

    @classmethod
    def from_plain(cls, plain: dict[str, Any] | None) -> "Table | None":
        """The inverse of `to_plain`; None of None."""
        if plain is None:
            return None
        by_colour = any(isinstance(raw, str) for raw in plain["label_map"])
        meaning: dict[Raw, str] = {}
        for raw, name in plain["label_map"].items():
            if by_colour:
                red, green, blue = map(int, raw.split(","))
                meaning[packed((red, green, blue))] = name
            else:
                meaning[int(raw)] = name
        return cls(list(plain["classes"]), meaning, by_colour)


def finding(
    kind: str,
    facts: Sequence[Facts],
    words: str,
    fix: str,
    *,
    stated: Stated,
    table: Table | None = None,
    repair: str = "",
    values: set[Raw] | None = None,
    by_colour: bool | None = None,
    colours: dict[Raw, str] | None = None,
) -> Finding:
    """An error in these masks. values: raw values at fault, by which examples are chosen; where there are
    none, each value that is not stated.
    """
    wrong = (
        values if values is not None else {raw for one in facts for raw in one.raw} - set(stated.train_ids)
    )
    hit = [one for one in facts if wrong & one.raw.keys()] or list(facts)
    most = sorted(hit, key=lambda one: -sum(one.raw.get(raw, 0) for raw in wrong))[:SHOWN]
    details: dict[str, Any] = {}
    if table is not None:
        details["classes_yaml"] = table.to_plain()
    if colours is not None:
        details["colours"] = {",".join(map(str, unpacked(raw))): name for raw, name in colours.items()}
    return Finding(
        kind,
        Level.ERROR,
        words,
        fix,
        files=tuple(path_of(one) for one in facts),
        examples=tuple(
            Example(one.image, one.label, "", tuple(sorted(wrong & one.raw.keys()))) for one in most
        ),
        repair=repair or ("a classes.yaml for these values" if table is not None else ""),
        details=details,
    )


def path_of(one: Facts) -> Path:
    assert one.label is not None
    return one.label


def summed(facts: Iterable[Facts]) -> dict[Raw, int]:
    """The pixels of each raw value in all masks."""
    pixels: dict[Raw, int] = {}
    for one in facts:
        for raw, count in one.raw.items():
            pixels[raw] = pixels.get(raw, 0) + count
    return pixels


def distance(raw: Raw, other: Raw, *, by_colour: bool) -> int:
    """Of two values, in grey levels; of colours, in the channel in which they differ most."""
    if not by_colour:
        return abs(raw - other)
    return max(abs(one - two) for one, two in zip(unpacked(raw), unpacked(other), strict=True))


def missing_names(names: Sequence[str], meaning: dict[Raw, str], taken: dict[int, Raw]) -> dict[Raw, str]:
    """A raw value for each class that no mask holds, as a label_map has to name every class: the class's id,
    or the next value that is free.
    """
    used = set(meaning.values())
    added: dict[Raw, str] = {}
    for index, name in enumerate(names):
        if name not in used:
            free = next(
                raw for raw in (index, *range(256, 65_536)) if raw not in meaning and raw not in added
            )
            added[free] = name
    return added


def void_meaning(stated: Stated, meaning: dict[Raw, str], facts: Sequence[Facts]) -> dict[Raw, str]:
    """255 and what the data set ignores stay void, unless they are classes now."""
    voids = {*stated.void(), *({IGNORE_INDEX} & set(summed(facts)))}
    return {raw: "ignore" for raw in voids if raw not in meaning}


def stray(facts: Sequence[Facts], stated: Stated, unknown: set[int]) -> Finding:
    hit = [one for one in facts if unknown & one.raw.keys()]
    kind = "colours" if stated.by_colour else "ids"
    shown = [stated.shown(raw) for raw in sorted(unknown)]
    pixels = sum(count for one in hit for raw, count in one.raw.items() if raw in unknown)
    meaning = stated.meaning
    return finding(
        "id_out_of_range",
        hit,
        f"{number(hit, 'mask')} with {kind} that are no class: "
        f"{listed(map(str, shown), 6)} ({pixels:,} pixels)",
        "map them to ignore in classes.yaml if they are void, else give each a class",
        table=Table(list(stated.names), meaning | dict.fromkeys(unknown, "ignore"), stated.by_colour),
        values=unknown,
        stated=stated,
    )
