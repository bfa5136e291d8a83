"""classes.yaml: what the values in a folder's masks mean.

classes: {background: [0, 0, 0], road: [128, 64, 128]}
    The names in the order of the train ids, with colours; as a list, without colours.
classes: {0: background, 127: road, 255: ignore}
    From a raw id to a class or to ignore: classes and label_map in one; or {background: 0, road: 127}.
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

from deeplabx.dataset.contract import IGNORE_INDEX, Colour, Palette, ignore_index_of, is_class_name
from deeplabx.dataset.label_file import LARGEST_ID, holds_colours, read_colours, read_label
from deeplabx.dataset.labels import MAX_CLASSES, LabelMap, voc_palette
from deeplabx.dataset.listing import nfc
from deeplabx.dataset.mask_values import Advice, how_to_write, in_yaml, sampled, values_in
from deeplabx.dataset.problems import report
from deeplabx.errors import DataError, listed, quoted

KEYS = ("classes", "ignore", "label_map")
EXAMPLE = "classes: [background, object]; see docs/data.md"
LONGEST_NAME = 100
OTHER_NAMES = ("classes.yml", "Classes.yaml", "classes.yaml.txt", "classes.YAML")


class ClassTable(NamedTuple):
    """The content of a classes.yaml."""

    names: list[str]
    palette: Palette
    label_map: LabelMap
    ignore_index: int

    @classmethod
    def read(cls, path: Path, *, masks: list[Path]) -> "ClassTable":
        """`masks` show whether ids or colours are meant where label_map does not say so. Reports a DataError;
        where problems are collected, the table is then empty.
        """
        try:
            return cls.of_file(path, masks=masks)
        except DataError as error:
            if error.kind == "unreadable":  # of no mask, but of the file itself
                error.kind = "classes_yaml"
            report(error)
            return cls([], [], LabelMap({}), IGNORE_INDEX)

    @classmethod
    def of_file(cls, path: Path, *, masks: list[Path]) -> "ClassTable":
        content = in_full(read_yaml(path, masks), path)
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
            colours_are_meant(masks, by_id, by_colour, names, path)
            if guessed
            else any(isinstance(raw, tuple) for raw in given)
        )
        if any(isinstance(raw, tuple) != by_colours for raw in ignored) and (by_colours or not guessed):
            held, there = ("ids", "colours") if by_colours else ("colours", "ids")
            raise DataError(
                f"{path}: ignore has {held}, but the masks have {there}",
                hint="write colours as ignore: [[0, 0, 142]]" if by_colours else "write ids as ignore: [255]",
            )
        if not by_colours and not guessed:
            try:
                refuse_colours(masks, path)
            except DataError as error:
                report(error)
        return cls(
            names,
            colours or voc_palette(len(names)),
            LabelMap(
                by_colour if by_colours else by_id,
                ignore_index=ignore_index_of(len(names)),
                hint=Advice(
                    names,
                    frozenset(by_colour if by_colours else by_id),
                    ignored,
                    sampled(masks),
                    by_colours,
                ),
            ),
            ignore_index_of(len(names)),
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
        others = [path.with_name(name) for name in OTHER_NAMES if path.with_name(name).is_file()]
        found = f"they hold {values_in(sampled(masks)).words}"
        raise DataError(
            f"{path} is missing: it says what the values in the masks mean ({found})",
            hint=f"rename {others[0]} to {path.name}" if others else how_to_write(path, masks),
            kind="no_classes",
        )
    content = loaded(path)
    if not isinstance(content, dict) or not content.get("classes"):
        raise DataError(f"{path} must have the key classes", hint=how_to_write(path, masks))
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise DataError(f"{path}: {', '.join(unknown)} is not one of {', '.join(KEYS)}")
    return content


def loaded(path: Path) -> Any:
    """The content of a YAML file. Raises DataError."""
    try:
        # Editors of different systems write é in different ways.
        return yaml.load(nfc(path.read_text(encoding="utf-8-sig")), Loader=Texts)
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is not valid YAML: it is not UTF-8", hint="save it as UTF-8 in a text editor"
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())[:160]}") from None


def in_full(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A file whose classes are a table of ids and names, as one with a list of classes and a label_map."""
    table = names_of_ids(content["classes"], path)
    if not table:
        return content
    if "label_map" in content:
        raise DataError(
            f"{path}: classes gives the ids of the classes, and label_map does too",
            hint="remove label_map, or write classes: [NAME, NAME, ...]",
        )
    in_order = sorted(table, key=int)
    names = dict.fromkeys(table[raw] for raw in in_order if table[raw] != "ignore")
    return {**content, "classes": list(names), "label_map": {raw: table[raw] for raw in in_order}}


def names_of_ids(classes: Any, path: Path) -> dict[str, str]:
    """{id: name} from a table of either order; empty for a list of names and for a table of colours."""
    if not isinstance(classes, dict) or not all(isinstance(value, str) for value in classes.values()):
        return {}
    keys, values = (all(map(is_number, texts)) for texts in (classes, classes.values()))
    for text in [*(classes if keys else []), *(classes.values() if values else [])]:
        raw_value(text, path)  # raises DataError for a number that is no id
    if keys and values:
        raise DataError(
            f"{path}: all keys and values of classes are numbers: which are the ids?",
            hint="write the names as classes: [...], and label_map: {ID: NAME, ...}",
        )
    if values:
        twice = [raw for raw, count in Counter(map(int, classes.values())).items() if count > 1]
        if twice:
            raise DataError(f"{path}: {twice[0]} is the id of two classes")
        return {raw: name for name, raw in classes.items()}
    named = keys and not any(
        name.startswith("#") or is_number(name.partition(",")[0]) for name in classes.values()
    )
    return classes if named else {}


def is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def is_id(text: str) -> bool:
    return is_number(text) and len(text) <= LONGEST_NAME and int(text) <= LARGEST_ID


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
    unfit = [name for name in names if not is_class_name(name) or len(name) > LONGEST_NAME]
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
                kind="ignore_inside_classes",
            )
    return {**train_ids, **dict.fromkeys(chosen, ignore_index)}


def raw_value(value: Any, path: Path) -> int | Colour:
    """A raw id from 0 to 65535, or a colour."""
    if isinstance(value, str) and is_number(value):
        if not is_id(value):
            raise DataError(f"{path}: {value[:20]} is not a raw id from 0 to 65535")
        return int(value)
    return colour_of(value, path)


def colour_of(value: Any, path: Path) -> Colour:
    """[r, g, b], "r,g,b" or "#rrggbb"."""
    channels: list[int] = []
    if isinstance(value, str) and value.startswith("#") and len(value) == 7:
        digits = value[1:].lower()
        if set(digits) <= set("0123456789abcdef"):
            channels = [int(digits[index : index + 2], 16) for index in (0, 2, 4)]
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
    masks: list[Path], by_id: dict[Any, int], by_colour: dict[Any, int], names: list[str], path: Path
) -> bool:
    """Whether the masks use the table's colours rather than ids. Raises DataError if both are possible and
    would give different labels.
    """
    for mask in sampled(masks, most=16):
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
                hint=in_either_way(names, by_colour),
            )
    return False


def in_either_way(names: list[str], by_colour: dict[Any, int]) -> str:
    """The label_map for masks of ids, and that for masks of colours."""
    ids = in_yaml(dict(enumerate(names)), key="label_map")
    colours = {
        ",".join(map(str, raw)): names[index] for raw, index in by_colour.items() if index < len(names)
    }
    return f"set {ids} for ids,\nor {in_yaml(colours, key='label_map')} for colours"


def refuse_colours(masks: list[Path], path: Path) -> None:
    """Raise DataError where all masks that are looked at hold colours, and classes.yaml gives ids."""
    for mask in sampled(masks):
        try:
            if not holds_colours(mask):
                return
        except DataError:  # as above
            continue
    values_in(sampled(masks))  # raises the error of a mask where none can be read
    raise DataError(
        f"{path} gives ids, but the masks hold colours, as {masks[0].name}",
        hint=how_to_write(path, masks),
        kind="colour_mask",
    )


def classes_in(path: Path) -> tuple[list[str], Palette]:
    """The class names, and their colours if they have any, in a classes.yaml of which other parts may be
    wrong. None where they cannot be read, or where a label_map says that the ids are not those of the names
    in order.
    """
    if not path.is_file():
        return [], []
    try:
        content = in_full(read_yaml(path, []), path)
        names, palette = names_and_colours(content["classes"], path)
        given = label_map_of(content, names, path)
    except (DataError, OSError):  # it has been reported
        return [], []
    return (names, palette) if all(raw == train_id for raw, train_id in given.items()) else ([], [])
