"""Classes of labels that have names, as polygons do: those of classes.yaml, or those that the labels name.

classes: [organ, tumour]      the names in the order of the train ids; with colours: {organ: [128, 0, 0], ...}
ignore: [unsure]              labels of pixels that are not counted
label_map: {cyst: tumour}     from other labels to a class, or to ignore
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplabx.dataset.class_table import KEYS, LONGEST_NAME, loaded, names_and_colours, names_of_ids
from deeplabx.dataset.contract import Palette, ignore_index_of
from deeplabx.dataset.labels import MAX_CLASSES, voc_palette
from deeplabx.errors import DataError, listed, nearest, quoted

BACKGROUND = "background"
IGNORE = "ignore"
BLACK = (0, 0, 0)


class LabelNames(NamedTuple):
    """by_label: from each label that is known to its train id, or to ignore_index. unlabelled: what pixels
    outside all labels are.
    """

    names: list[str]
    palette: Palette
    by_label: dict[str, int]
    ignore_index: int
    unlabelled: int
    source: str  # of the names, in words

    def train_id(self, label: str) -> int:
        """Raises ValueError for a label that is not known."""
        found = self.by_label.get(label)
        if found is None:
            raise ValueError(f"the label {quoted(label)} is not in {self.source}")
        return found


def label_names(base: Path, found: Sequence[str], *, unlabelled: str, where: object) -> LabelNames:
    """found: the labels in the files, in order, which are the classes where `base` has no classes.yaml.
    where: the file or folder that they are from. unlabelled: background or ignore. Raises DataError.
    """
    path = base / "classes.yaml"
    content: dict[str, Any] = {}
    if path.is_file():
        content = content_of(path, found)
        names, colours = two_or_one(content["classes"], path, unlabelled)
        source = str(path)
    else:
        refuse_unclear(found, unlabelled=unlabelled, where=where)
        names, colours = two_or_one(list(found), where, unlabelled)
        source = f"{where}"
    if unlabelled == BACKGROUND and BACKGROUND not in names:
        if BLACK in colours:
            raise DataError(
                f"{source}: {quoted(names[colours.index(BLACK)])} is black, as the background that is added",
                hint="give it another colour, or list the background too, with another one",
            )
        names = [BACKGROUND, *names]
        colours = [BLACK, *colours] if colours else []
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(f"{source}: {len(names)} classes, with the background; there may be {MAX_CLASSES}")
    ignore_index = ignore_index_of(len(names))
    by_label = {name: index for index, name in enumerate(names)}
    if path.is_file():
        by_label |= mapped(content, by_label, ignore_index, path)
    outside = by_label[BACKGROUND] if unlabelled == BACKGROUND else ignore_index
    return LabelNames(names, colours or voc_palette(len(names)), by_label, ignore_index, outside, source)


def refuse_unclear(found: Sequence[str], *, unlabelled: str, where: object) -> None:
    """Raise DataError where labels that are to be the classes may mean the background that is added, or
    pixels that are not counted, as _background_ and __ignore__ do in LabelMe's own lists.
    """
    for label in found:
        plain = label.strip("_ ").casefold()
        as_background = plain == BACKGROUND and unlabelled == BACKGROUND and label != BACKGROUND
        if as_background or plain == IGNORE:
            rest = [one for one in found if one != label and one != BACKGROUND]
            meant = f"ignore: [{label}]" if plain == IGNORE else f"label_map: {{{label}: {BACKGROUND}}}"
            raise DataError(
                f"{where}: is the label {quoted(label)} a class, or "
                f"{'not counted' if plain == IGNORE else 'the background that dataset.unlabelled adds'}?",
                hint=f"say it in classes.yaml: classes: [{listed(rest)}] and {meant}; or list it as a class",
            )


def content_of(path: Path, found: Sequence[str]) -> dict[str, Any]:
    content = loaded(path)
    if not isinstance(content, dict) or not content.get("classes"):
        example = f", such as classes: [{', '.join(found[:3])}]" if found else ""
        raise DataError(f"{path} must have the key classes{example}")
    if names_of_ids(content["classes"], path):
        raise DataError(
            f"{path}: classes gives ids, but these labels have names",
            hint="write the names, as in classes: [road, car]",
        )
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise DataError(f"{path}: {', '.join(map(str, unknown))} is not one of {', '.join(KEYS)}")
    return content


def two_or_one(classes: Any, path: Any, unlabelled: str) -> tuple[list[str], Palette]:
    """Names and colours as classes.yaml has them; one name will do where the background is added to it."""
    if isinstance(classes, list | dict) and len(classes) == 1:
        (name,) = classes
        if unlabelled != BACKGROUND or name == BACKGROUND:
            raise DataError(
                f"{path}: one class, {quoted(name)}; there must be two",
                hint="set dataset.unlabelled=background, so that what is not labelled is a class too",
            )
        both = [name, BACKGROUND] if isinstance(classes, list) else {**classes, BACKGROUND: ["0", "0", "0"]}
        names, colours = names_and_colours(both, path)
        return names[:1], colours[:1]
    return names_and_colours(classes, path)


def mapped(
    content: dict[str, Any], index_of: dict[str, int], ignore_index: int, path: Path
) -> dict[str, int]:
    """The labels that `label_map` and `ignore` speak of."""
    label_map, ignored = content.get("label_map", {}), content.get("ignore", [])
    ignored = ignored if isinstance(ignored, list) else [ignored]
    if not isinstance(label_map, dict) or not all(isinstance(label, str) for label in [*label_map, *ignored]):
        raise DataError(
            f"{path}: label_map maps labels to classes, and ignore lists labels",
            hint="as in label_map: {truck: vehicle} and ignore: [unsure]",
        )
    found = dict.fromkeys(ignored, ignore_index)
    for label, target in label_map.items():
        if target != IGNORE and target not in index_of:
            raise DataError(
                f"{path}: label_map maps {quoted(label)} to {quoted(target)}, which is not in classes",
                hint=f"classes: {listed(index_of)}, or ignore",
            )
        found[label] = ignore_index if target == IGNORE else index_of[target]
    twice = [label for label in found if label in index_of and found[label] != index_of[label]]
    if twice:
        raise DataError(f"{path}: {quoted(twice[0])} is a class, but is mapped to another or ignored")
    return found


def unknown_label(label: str, names: LabelNames) -> str:
    """What to do about a label that is not known."""
    near = nearest(label, names.by_label)
    add = "add it to classes, label_map or ignore there" if names.source.endswith(".yaml") else ""
    return f"{near.strip()} {add}".strip()[: 4 * LONGEST_NAME]
