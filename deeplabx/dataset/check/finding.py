"""What a check of a data set found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

SHOWN = 3  # examples of a finding


class Level(StrEnum):
    """error: training would go wrong. warning: it may. note: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Example:
    """A sample that shows a finding. values: the raw values of the mask that are at fault, packed if they are
    colours; their pixels are marked.
    """

    image: Path | None
    label: Path | None
    words: str = ""  # what is wrong here
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One cause, with the files it was found in."""

    kind: str  # such as "palette_as_colour"
    level: Level
    words: str  # what was found, in one sentence
    fix: str  # what to do about it
    files: tuple[Path, ...] = ()
    examples: tuple[Example, ...] = ()
    repair: str = ""  # what `fix=true` does about it; "" where it can do nothing
    details: dict[str, Any] = field(default_factory=dict)  # plain numbers and texts, for check.json


def number(things: Sequence[object], what: str) -> str:
    """Such as "1 mask" or "3 masks"."""
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"
