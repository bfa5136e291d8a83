"""What values masks hold, and the classes.yaml that fits them: hints that work when they are followed."""

import functools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from deeplabx.dataset.contract import IGNORE_INDEX, WIDE_IGNORE_INDEX, Colour
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.label_file import holds_colours, read_colours, read_label
from deeplabx.dataset.labels import MAX_CLASSES, runs, unpacked
from deeplabx.errors import LONGEST_LINE, DataError

LOOKED_AT = 32  # masks
FITS = 440  # characters of a table in a line of a message
SHARP = (
    0.98  # share of pixels of the darkest and the brightest value in masks of two values with smooth edges
)
TOO_MANY = "too many to be classes: save the masks without smooth edges, or map them in label_map"
GROUND = ("background", "_background_", "bg", "ground", "other", "unlabeled", "unlabelled")


class MaskValues(NamedTuple):
    """The raw ids in some masks, or their colours where masks hold colours."""

    ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    smooth: bool = False  # whether nearly all pixels have the lowest or the highest of many ids

    @property
    def words(self) -> str:
        values: Sequence[object] = self.colours or self.ids
        return f"{', '.join(map(str, values[:6]))}{', ...' if len(values) > 6 else ''}"


def sampled(masks: list[Path], *, most: int = LOOKED_AT) -> tuple[Path, ...]:
    """A few masks from all parts of a list."""
    return tuple(masks[:: -(-len(masks) // most) or 1])


def values_in(masks: tuple[Path, ...]) -> MaskValues:
    """The values of all these masks that can be read. Raises DataError where none can be."""
    return values_of(tuple((mask, mask.stat().st_mtime_ns) for mask in masks))


@functools.lru_cache(maxsize=4)
def values_of(masks: tuple[tuple[Path, int], ...]) -> MaskValues:
    """As `values_in`; with the time of each mask's last change, as many errors may ask for the same masks."""
    readable, errors = [], []
    for mask, _ in masks:
        try:
            readable.append((mask, holds_colours(mask)))
        except DataError as error:  # it is reported when it is read for training or evaluation
            errors.append(error)
    of_colour = any(colours for _, colours in readable)
    seen, counts = np.zeros(1 << 24, bool), np.zeros(1 << 16, np.int64)
    read, white = 0, 0
    for mask, _ in readable:
        try:
            if of_colour:
                red, green, blue = np.moveaxis(read_colours(mask, alpha="keep").astype(np.uint32), 2, 0)
                seen[red << 16 | green << 8 | blue] = True
            else:
                found = np.bincount(read_label(mask, alpha="keep").ravel(), minlength=1 << 16)
                counts += found
                header = header_of(mask, mask=True)
                white += int(found[1]) if header.bits == 1 and header.mode != "P" else 0
            read += 1
        except DataError as error:  # as above
            errors.append(error)
    if not read:
        raise errors[0]
    if of_colour:
        return MaskValues((), tuple(unpacked(int(value)) for value in np.flatnonzero(seen)))
    if white and counts[255] and counts[1] == white:  # some of masks of 0 and 255 were saved with one bit
        counts[1], counts[255] = 0, counts[255] + white
    ids = np.flatnonzero(counts)
    ends = counts[ids[0]] + counts[ids[-1]]
    return MaskValues(tuple(ids.tolist()), (), len(ids) > 8 and bool(SHARP * counts.sum() < ends))


# --- a table for them ---------------------------------------------------------------------------------------


def how_to_write(path: Path, masks: list[Path]) -> str:
    """What to write into a classes.yaml for these masks, at most two lines."""
    found = values_in(sampled(masks))
    values: Sequence[object] = found.colours or found.ids
    if found.smooth or len(values) > MAX_CLASSES:
        return (
            f"the masks hold {len(values)} values, too many for classes: smooth edges of resized or "
            "compressed masks, or ids of\ninstances; save them again with one value per class, without "
            "interpolation"
        )
    table = colour_table(found.colours) if found.colours else id_table(found.ids, names=[])
    text = in_yaml(table)
    if len(text) <= FITS:
        return f"write {text}\nwith names of your own; see docs/data.md"
    printed = f"write the output of: {command(table)} > {shlex.quote(str(path))}"
    if len(printed) <= LONGEST_LINE:
        return f"{printed}\nthen change the names"
    return f"write the {len(values)} values as classes: {{ID: NAME, ...}} or {{NAME: [R, G, B], ...}}"


def id_table(ids: Iterable[int], *, names: list[str]) -> dict[Any, Any]:
    """Ids to names: those given, where they are as many; a void value beside small ids is ignored."""
    ids = list(ids)
    rest, void = without_void(ids)
    if len(names) != len(ids) and len(names) != len(rest):
        names = []
    if len(names) == len(ids):
        rest, void = ids, []
    if not names and len(rest) < 2:
        rest = sorted({0, *rest}) if rest != [0] else [0, 1]
    table: dict[Any, Any] = dict(
        zip(rest, names or [invented(raw, of=len(rest)) for raw in rest], strict=True)
    )
    return {**table, **dict.fromkeys(void, "ignore")}


def without_void(ids: list[int]) -> tuple[list[int], list[int]]:
    """The ids without 255 or 65535 where it stands apart from at least two others, and those values."""
    for void in (IGNORE_INDEX, WIDE_IGNORE_INDEX):
        rest = [raw for raw in ids if raw != void]
        if void in ids and len(rest) > 1 and max(rest) <= void // 4:
            return rest, [void]
    return ids, []


def invented(raw: int, *, of: int) -> str:
    return "background" if raw == 0 else "object" if of == 2 else f"class_{raw}"


def colour_table(colours: Sequence[Colour]) -> dict[Any, Any]:
    """Names to colours; black is the background."""
    if len(colours) < 2:
        other = (255, 255, 255) if colours[0] == (0, 0, 0) else (0, 0, 0)
        colours = sorted((colours[0], other))
    names = (
        "background" if colour == (0, 0, 0) else "object" if len(colours) == 2 and index else f"class_{index}"
        for index, colour in enumerate(colours)
    )
    return {name: list(colour) for name, colour in zip(names, colours, strict=True)}


def in_yaml(table: dict[Any, Any] | list[str], key: str = "classes") -> str:
    """A table as one line of YAML."""
    written = yaml.safe_dump(
        {key: table}, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return written.strip().removeprefix("{").removesuffix("}")


def command(table: dict[Any, Any]) -> str:
    """A shell's command that prints a table too long for a message."""
    if all(isinstance(key, str) for key in table):
        colours = " ".join("".join(f"{channel:02x}" for channel in colour) for colour in table.values())
        code = (
            f"print('classes:', {{f'class_{{i}}': list(bytes.fromhex(c)) for i, c in "
            f"enumerate('{colours}'.split())}})"
        )
    else:
        ids = as_python([raw for raw, name in table.items() if name != "ignore"])
        void = "".join(f" | {{{raw}: 'ignore'}}" for raw, name in table.items() if name == "ignore")
        code = f"print('classes:', {{i: f'class_{{i}}' for i in [{ids}]}}{void})"
    return f'python3 -c "{code}"'


def as_python(ids: list[int]) -> str:
    """Ids as elements of a Python list, three and more in a row as a range."""
    return ", ".join(
        f"*range({first}, {last + 1})" if last > first + 1 else ", ".join(map(str, range(first, last + 1)))
        for first, last in runs(ids)
    )


# --- a value that a table does not know ---------------------------------------------------------------------


@dataclass(frozen=True)
class Advice:
    """How to declare values that a classes.yaml does not know, from it and a sample of the masks."""

    names: list[str]
    known: frozenset[int | Colour]
    ignored: list[int | Colour]
    masks: tuple[Path, ...]
    by_colour: bool

    def __call__(self, unknown: list[int | Colour]) -> str:
        try:
            found = values_in(self.masks)
        except (DataError, OSError):  # the error at hand is about another file
            found = MaskValues((), ())
        if self.by_colour:
            return self.ignoring([*found.colours, *unknown])
        ids = sorted({*found.ids, *(raw for raw in unknown if isinstance(raw, int))})
        rest = [raw for raw in ids if raw not in self.ignored]
        table = self.fitting(rest)
        if table and self.known - {*self.ignored} != {*table}:
            text = in_yaml(table)
            if len(text) <= FITS:
                return f"in classes.yaml, write {text}, in place of classes and label_map"
        return self.ignoring(ids)

    def fitting(self, ids: list[int]) -> dict[Any, Any]:
        """Ids to names where they are as many, or where only the background has no name; empty otherwise."""
        rest, void = without_void(ids)
        ground = [] if self.names[0].lower() in GROUND else ["background"]
        if ground and rest == list(range(len(self.names) + 1)):
            named = dict(zip(rest, [*ground, *self.names], strict=True))
            return {**named, **dict.fromkeys(void, "ignore")}
        if len(self.names) in (len(rest), len(ids)):
            return id_table(ids, names=self.names)
        return {}

    def ignoring(self, found: Sequence[int | Colour]) -> str:
        """Ignore what is not known: right where the values are void."""
        more = [raw for raw in dict.fromkeys(found) if raw not in self.known and raw not in self.ignored]
        if len(more) > MAX_CLASSES:
            return TOO_MANY
        values = [list(raw) if isinstance(raw, tuple) else raw for raw in [*self.ignored, *more]]
        text = in_yaml(values, key="ignore")  # type: ignore[arg-type]
        if len(text) > FITS:
            return TOO_MANY
        return f"in classes.yaml, write {text} if they are void; else give each a class in label_map"
