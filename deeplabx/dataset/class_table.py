"""classes.yaml: what the values in a folder's masks mean.

classes: {background: [0, 0, 0], road: [128, 64, 128]}
    The names in the order of the train ids, with colours; as a list, without colours.
ignore: [255]
    Raw ids or colours that are ignored.
label_map: {0: background, 127: road}
    From a raw id, or a colour as "r,g,b" or "#rrggbb", to a class or to ignore.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from deeplabx.dataset.contract import Colour, Palette, ignore_index_of
from deeplabx.dataset.label_file import holds_colours, read_colours, read_label
from deeplabx.dataset.labels import MAX_CLASSES, LabelMap, voc_palette
from deeplabx.errors import DataError, listed, quoted

KEYS = ("classes", "ignore", "label_map")
EXAMPLE = "classes: [background, object]; see docs/data.md"
LONGEST_NAME = 100
LOOKED_AT = 16  # masks to read if only they can show whether ids or colours are meant


class ClassTable(NamedTuple):
    """The content of a classes.yaml."""

    names: list[str]
    palette: Palette
    label_map: LabelMap
    ignore_index: int

    @classmethod
    def read(cls, path: Path, *, masks: list[Path]) -> "ClassTable":
        """`masks` show whether ids or colours are meant where label_map does not say so. Raises DataError."""
        content = read_yaml(path, masks)
        names, colours = names_and_colours(content["classes"], path)
        given = label_map_of(content, names, path)
        ignored = ignored_values(content.get("ignore", []), path)
        by_id = with_ignored(
            given or {index: index for index in range(len(names))}, ignored, int, names, path
        )
        by_colour = with_ignored(
            given or {colour: index for index, colour in enumerate(colours)}, ignored, tuple, names, path
        )
        # A table of colours may be used with masks of colours, or of ids.
        guessed = not given and bool(colours)
        by_colours = (
            colours_are_meant(masks, by_id, by_colour, path)
            if guessed
            else any(isinstance(raw, tuple) for raw in given)
        )
        if any(isinstance(raw, tuple) != by_colours for raw in ignored) and (by_colours or not guessed):
            held, there = ("ids", "colours") if by_colours else ("colours", "ids")
            raise DataError(
                f"{path}: ignore has {held}, but the masks have {there}",
                hint="write a colour as ignore: [[0, 0, 142]]",
            )
        return cls(
            names,
            colours or voc_palette(len(names)),
            LabelMap(
                by_colour if by_colours else by_id,
                ignore_index=ignore_index_of(len(names)),
                hint=how_to_declare(names),
            ),
            ignore_index_of(len(names)),
        )


def how_to_declare(names: list[str]) -> str:
    return (
        f"in classes.yaml, label_map: {{0: {names[0]}, 255: {names[1]}}} maps values to classes, "
        f"ignore: [{ignore_index_of(len(names))}] excludes them"
    )


# --- the file -----------------------------------------------------------------------------------------------


class Texts(yaml.BaseLoader):
    """Every scalar as the text that was written (`no` stays no, 010 stays 010), and a duplicate key
    is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key.value for key, _ in node.value):
            if not isinstance(key, str):
                raise yaml.YAMLError(
                    f"line {node.start_mark.line + 1}: a key must be one value; write colours as strings"
                )
            if key in seen:
                raise yaml.YAMLError(f"duplicate key {key}")
            seen.add(key)
        return super().construct_mapping(node, deep=True)


def read_yaml(path: Path, masks: list[Path]) -> dict[str, Any]:
    if not path.is_file():
        values = values_shown(masks[0])
        found = f"{masks[0].name} holds {', '.join(values)}"
        gaps = values != [str(number) for number in range(len(values))]
        mapped = " and, for these values, label_map: {0: background, 255: object}" if gaps else ""
        raise DataError(
            f"{path} is missing: it says what the values in masks/ mean ({found})",
            hint=f"write {EXAMPLE}{mapped}",
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Texts)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(content, dict) or not content.get("classes"):
        raise DataError(f"{path} must have the key classes", hint=f"write {EXAMPLE}")
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise DataError(f"{path}: {', '.join(unknown)} is not one of {', '.join(KEYS)}")
    return content


def names_and_colours(classes: Any, path: Path) -> tuple[list[str], Palette]:
    """Class names in order, and their colours where they are given."""
    if not isinstance(classes, list | dict) or not all(isinstance(name, str) and name for name in classes):
        raise DataError(
            f"{path}: classes must be a list of names, or a table of names and colours",
            hint=f"write {EXAMPLE}",
        )
    names = list(classes)
    if len(set(names)) != len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise DataError(f"{path}: duplicate class name: {listed(twice)}")
    unfit = [name for name in names if not name.isprintable() or len(name) > LONGEST_NAME]
    if unfit:
        raise DataError(
            f"{path}: the class name {quoted(unfit[0])} cannot be printed",
            hint=f"use at most {LONGEST_NAME} printable characters",
        )
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{path}: {len(names)} classes; there must be 2 to {MAX_CLASSES}, background included",
            hint="" if len(names) < 2 else "map rare values to one class, or to ignore, in label_map",
        )
    if isinstance(classes, list):
        return names, []
    ids = [value for value in classes.values() if isinstance(value, str) and value.isdecimal()]
    if ids:
        mapped = ", ".join(f"{value}: {name}" for name, value in list(classes.items())[:3])
        raise DataError(
            f"{path}: classes maps {names[0]} to {ids[0]}, but a table of classes has colours",
            hint=f"for masks of ids, write classes: [{', '.join(names[:3])}] and label_map: {{{mapped}}}",
        )
    colours = [colour_of(colour, path) for colour in classes.values()]
    if len(set(colours)) != len(colours):
        raise DataError(f"{path}: two classes have the same colour")
    return names, colours


def label_map_of(content: dict[str, Any], names: list[str], path: Path) -> dict[Any, int]:
    """label_map with its keys read and its classes looked up; empty where the table has none."""
    if "label_map" not in content:
        return {}
    written = content["label_map"]
    if not isinstance(written, dict) or not written:
        raise DataError(
            f"{path}: label_map must be a table such as {{0: {names[0]}}}",
            hint="colours need quotes, as in '#804080'",
        )
    label_map: dict[Any, int] = {}
    index_of = {name: index for index, name in enumerate(names)}
    for text, target in written.items():
        raw = raw_value(text, path)
        if target != "ignore" and (not isinstance(target, str) or target not in index_of):
            raise DataError(
                f"{path}: label_map maps to {quoted(target)}, which is not in classes",
                hint=f"classes: {listed(names)}, or ignore",
            )
        if raw in label_map:
            raise DataError(f"{path}: duplicate {text} in label_map")
        label_map[raw] = ignore_index_of(len(names)) if target == "ignore" else index_of[target]
    if len({type(raw) for raw in label_map}) > 1:
        raise DataError(f"{path}: label_map has both ids and colours", hint="masks have one or the other")
    used = set(label_map.values())
    unused = [name for name, index in index_of.items() if index not in used]
    if unused:
        raise DataError(f"{path}: label_map maps nothing to {listed(unused)}")
    return label_map


def ignored_values(ignore: Any, path: Path) -> list[int | Colour]:
    """`ignore` as raw values: it may be one id, one colour, or a list of either; [0, 0, 142] is read as three
    ids.
    """
    return [raw_value(raw, path) for raw in (ignore if isinstance(ignore, list) else [ignore])]


def with_ignored(
    train_ids: dict[Any, int], ignored: list[int | Colour], kind: type, names: list[str], path: Path
) -> dict[Any, int]:
    """`train_ids` plus the ignored values of one kind, ids or colours."""
    chosen, ignore_index = [raw for raw in ignored if isinstance(raw, kind)], ignore_index_of(len(names))
    for raw in chosen:
        if train_ids.get(raw, ignore_index) != ignore_index:
            raise DataError(
                f"{path}: {raw} is both class {names[train_ids[raw]]!r} and in ignore",
                hint="with more than 255 classes, 255 is the id of one; void can be 65535"
                if raw == 255 < len(names)
                else "",
            )
    return {**train_ids, **dict.fromkeys(chosen, ignore_index)}


def raw_value(value: Any, path: Path) -> int | Colour:
    """A raw id from 0 to 65535, or a colour."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        if int(value) > 65535:
            raise DataError(f"{path}: {value} is not a raw id from 0 to 65535")
        return int(value)
    return colour_of(value, path)


def colour_of(value: Any, path: Path) -> Colour:
    """[r, g, b], "r,g,b" or "#rrggbb"."""
    channels: list[int] = []
    if isinstance(value, str) and value.startswith("#") and len(value) == 7:
        digits = value[1:].lower()
        if set(digits) <= set("0123456789abcdef"):
            channels = [int(digits[place : place + 2], 16) for place in (0, 2, 4)]
    else:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
        if all(
            isinstance(part, str) and part.strip().isascii() and part.strip().isdecimal() for part in parts
        ):
            channels = [int(part) for part in parts]
    if len(channels) != 3 or max(channels) > 255:
        texts = isinstance(value, list) and all(isinstance(part, str) for part in value)
        said = f"[{', '.join(value)}]" if texts else quoted(value)
        raise DataError(
            f"{path}: {said} is neither an id nor a colour",
            hint='colours are [128, 64, 128], "128,64,128" or "#804080"',
        )
    return channels[0], channels[1], channels[2]


# --- the masks ----------------------------------------------------------------------------------------------


def colours_are_meant(
    masks: list[Path], by_id: dict[Any, int], by_colour: dict[Any, int], path: Path
) -> bool:
    """Whether the masks use the table's colours rather than ids. Raises DataError if both are possible and
    would give different labels.
    """
    for mask in masks[:: max(1, len(masks) // LOOKED_AT)]:
        try:
            if holds_colours(mask):
                return True
            ids = read_label(mask, alpha="keep").reshape(-1)
        except DataError:  # it is reported when it is read for training or evaluation
            continue
        if ids.dtype != np.uint8:
            return False  # 16-bit masks hold ids
        values, first = np.unique(ids, return_index=True)
        shown = [tuple(colour) for colour in read_colours(mask, alpha="keep").reshape(-1, 3)[first].tolist()]
        as_ids, as_colours = (
            [by_id.get(int(value)) for value in values],
            [by_colour.get(colour) for colour in shown],
        )
        if None in as_ids or None in as_colours:
            if None in as_ids and None in as_colours:
                continue
            return None in as_ids
        if as_ids != as_colours:
            raise DataError(
                f"{mask}: its ids {values[:8].tolist()} and its colours {shown[:8]} are different classes in "
                f"{path.name}",
                hint='set label_map: {0: ..., 1: ...} for ids or {"0,0,0": ...} for colours',
            )
    return False


def values_shown(path: Path) -> list[str]:
    """The first few raw ids or colours of a mask, as text."""
    raw = read_colours(path, alpha="keep") if holds_colours(path) else read_label(path, alpha="keep")
    values = np.unique(raw.reshape(-1, *raw.shape[2:]), axis=0)[:6].tolist()
    return [str(tuple(value)) if isinstance(value, list) else str(value) for value in values]
