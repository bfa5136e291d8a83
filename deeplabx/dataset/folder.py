"""People's own pictures: images/ and masks/ with a classes.yaml that says what the masks mean. No code is needed.

classes.yaml   classes: {background: [0, 0, 0], road: [128, 64, 128]}    in the order of the train ids; or a list of names
               ignore: [255]                                             raw ids or colours that count nowhere
               label_map: {0: background, 127: road}                     raw id, or colour as "r,g,b" or "#rrggbb", to class or ignore
images/train/a.jpg  masks/train/a.png      or images/a.jpg with train.txt and val.txt, or images/a.jpg and dataset.val_fraction
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from deeplabx.dataset.contract import IGNORE_INDEX, Colour, Palette
from deeplabx.dataset.files import LabelledFiles, complete, contents, listed_names, pictures_in, root_folder
from deeplabx.dataset.io import holds_colours, read_colours, read_label
from deeplabx.dataset.labels import MAX_CLASSES, LabelMap, voc_palette
from deeplabx.errors import DataError

TABLE = "classes.yaml"
KEYS = ("classes", "ignore", "label_map")
EXAMPLE = "classes: [background, object]; see dataset=folder in the README"
LAYOUT = "a folder data set is classes.yaml, images/<split>/ and masks/<split>/; see dataset=folder in the README"
LOSSLESS = (".png", ".tif", ".tiff", ".bmp")
LOSSY = (".jpg", ".jpeg", ".webp")


class Folder(LabelledFiles):
    """One split of `root`. `val_fraction`: the share of a seeded split into train and val, where the folder has no split of its own.

    `mask_suffix`: what a mask's name has after its picture's, as `_mask` in a_mask.png for a.jpg.
    """

    def __init__(
        self, *, root: str | None, split: str, val_fraction: float | None = None, split_seed: int = 0, mask_suffix: str = ""
    ) -> None:
        base = root_folder(root, name="folder", how_to_get=LAYOUT)
        for name in ("images", "masks"):
            if not (base / name).is_dir():
                raise DataError(f"dataset.root={root} must hold images/ and masks/, but {contents(base)}", hint=LAYOUT)
        images = images_of(base, split, val_fraction=val_fraction, split_seed=split_seed)
        pairs = complete(
            [(image, mask_of(base, image, mask_suffix)) for image in images],
            where=f"{base}, split {split}",
            hint=f"the mask of images/a.jpg is masks/a{mask_suffix}.png; dataset.mask_suffix says what its name has at the end",
        )
        table = ClassTable.read(base / TABLE, masks=[mask for _, mask in pairs])
        super().__init__(pairs, classes=table.names, palette=table.palette, label_map=table.label_map)
        refuse_vanished_foreground(self)

    def read_raw(self, path: Path) -> np.ndarray:
        return read_colours(path) if self.label_map.by_colour else read_label(path)


# --- which files -----------------------------------------------------------------------------------------------------------------------


def images_of(base: Path, split: str, *, val_fraction: float | None, split_seed: int) -> list[Path]:
    """A split's pictures: those of images/<split>/, those that <split>.txt lists, or those of a seeded split."""
    if (base / "images" / split).is_dir():
        return pictures_in(base / "images" / split)
    if (base / f"{split}.txt").is_file():
        return [listed_image(base / "images", name, source=base / f"{split}.txt") for name in listed_names(base / f"{split}.txt")]
    if val_fraction is None:
        raise DataError(
            f"{base} has neither images/{split}/ nor {split}.txt; images/: {contents(base / 'images')}",
            hint="type dataset.val_fraction=0.2 for a seeded split into train and val",
        )
    if split not in ("train", "val"):
        raise DataError(f"dataset split {split}: a seeded split has train and val", hint=f"or write {base / split}.txt")
    images = pictures_in(base / "images")
    held_out = max(1, round(len(images) * val_fraction))
    order = np.random.default_rng(split_seed).permutation(len(images))
    chosen = order[:held_out] if split == "val" else order[held_out:]
    return [images[place] for place in sorted(chosen)]


def listed_image(images: Path, name: str, *, source: Path) -> Path:
    """The picture that a split's list names, with or without its suffix."""
    found = [images / name] if (images / name).is_file() else sorted((images / name).parent.glob(f"{Path(name).name}.*"))
    if len(found) != 1:
        raise DataError(f"{source}: {name!r} names {len(found)} files below {images}, not one")
    return found[0]


def mask_of(base: Path, image: Path, mask_suffix: str) -> Path:
    """The mask beside which `image` lies in images/; a .png that does not exist where there is none."""
    place = base / "masks" / image.relative_to(base / "images").parent
    stem = f"{image.stem}{mask_suffix}"
    for suffix in LOSSLESS:
        if (place / f"{stem}{suffix}").is_file():
            return place / f"{stem}{suffix}"
    lossy = [place / f"{stem}{suffix}" for suffix in LOSSY if (place / f"{stem}{suffix}").is_file()]
    if lossy:
        raise DataError(f"{lossy[0]}: a mask must not be a {lossy[0].suffix} file: compression changes ids", hint="save masks as PNG")
    return place / f"{stem}.png"


# --- what the masks mean ---------------------------------------------------------------------------------------------------------------


class ClassTable(NamedTuple):
    """What classes.yaml says."""

    names: list[str]
    palette: Palette
    label_map: LabelMap

    @classmethod
    def read(cls, path: Path, *, masks: list[Path]) -> "ClassTable":
        """`masks` show whether ids or colours are to be mapped where label_map does not say so. Raises DataError."""
        content = read_table(path, masks)
        names, colours = names_and_colours(content["classes"], path)
        ignored = content.get("ignore", [])
        ignored = ignored if isinstance(ignored, list) else [ignored]
        label_map: dict[Any, Any] = content.get("label_map") or {}
        if not isinstance(label_map, dict):
            raise DataError(f"{path}: label_map must be a table such as {{0: {names[0]}}}")
        by_colour = any(isinstance(raw, str) for raw in label_map) if label_map else bool(colours) and holds_colours(masks[0])
        if by_colour and len(ignored) == 3 and all(isinstance(channel, int) for channel in ignored):
            ignored = [ignored]  # ignore: [0, 0, 0]
        raw_of: Callable[[Any, Path], int | Colour] = colour_of if by_colour else id_of
        train_ids: dict[Any, int] = {raw: index for index, raw in enumerate(colours if by_colour else range(len(names)))}
        if label_map:
            train_ids = {raw_of(raw, path): train_id_of(target, names, path) for raw, target in label_map.items()}
        for raw in ignored:
            value = raw_of(raw, path)
            if train_ids.get(value, IGNORE_INDEX) != IGNORE_INDEX:
                raise DataError(f"{path}: {raw} is both class {names[train_ids[value]]!r} and in ignore")
            train_ids[value] = IGNORE_INDEX
        unused = [name for index, name in enumerate(names) if index not in train_ids.values()]
        if unused:
            raise DataError(f"{path}: label_map gives nothing to {', '.join(unused)}")
        return cls(names, colours or voc_palette(len(names)), LabelMap(train_ids))


def read_table(path: Path, masks: list[Path]) -> dict[str, Any]:
    if not path.is_file():
        found = f"{masks[0].name} holds {', '.join(values_shown(masks[0]))}"
        raise DataError(f"{path} is missing: it says what the values in masks/ mean ({found})", hint=f"write {EXAMPLE}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(content, dict) or not content.get("classes"):
        raise DataError(f"{path} must have a key classes", hint=f"write {EXAMPLE}")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise DataError(f"{path}: {', '.join(unknown)} is not one of {', '.join(KEYS)}")
    return content


def names_and_colours(classes: Any, path: Path) -> tuple[list[str], Palette]:
    """Class names in order, and their colours where they are given."""
    if not isinstance(classes, list | dict):
        raise DataError(f"{path}: classes must be a list of names, or a table of names and colours", hint=f"write {EXAMPLE}")
    names = [str(name) for name in classes]
    if len(set(names)) != len(names):
        raise DataError(f"{path}: a class name stands twice in {', '.join(names)}")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(f"{path}: {len(names)} classes; there must be 2 to {MAX_CLASSES}, background included")
    if isinstance(classes, list):
        return names, []
    colours = [colour_of(colour, path) for colour in classes.values()]
    if len(set(colours)) != len(colours):
        raise DataError(f"{path}: two classes have the same colour")
    return names, colours


def colour_of(value: Any, path: Path) -> Colour:
    """[r, g, b], "r,g,b" or "#rrggbb"."""
    channels = value
    if isinstance(value, str) and value.startswith("#") and len(value) == 7:
        channels = [value[place : place + 2] for place in (1, 3, 5)]
        channels = [int(channel, 16) if set(channel.lower()) <= set("0123456789abcdef") else -1 for channel in channels]
    elif isinstance(value, str):
        channels = [int(channel) if channel.strip().isdecimal() else -1 for channel in value.split(",")]
    if not (
        isinstance(channels, list) and len(channels) == 3 and all(type(channel) is int and 0 <= channel <= 255 for channel in channels)
    ):
        raise DataError(f"{path}: {value!r} is not a colour", hint='colours are [128, 64, 128], "128,64,128" or "#804080"')
    return channels[0], channels[1], channels[2]


def id_of(value: Any, path: Path) -> int:
    if type(value) is not int or not 0 <= value <= 65535:
        raise DataError(f"{path}: {value!r} is not a raw id from 0 to 65535")
    return value


def train_id_of(target: Any, names: list[str], path: Path) -> int:
    if target == "ignore":
        return IGNORE_INDEX
    if target not in names:
        raise DataError(f"{path}: label_map leads to {target!r}, which is not in classes", hint=f"classes: {', '.join(names)}, or ignore")
    return names.index(target)


# --- what would train to nothing ---------------------------------------------------------------------------------------------------------


def refuse_vanished_foreground(samples: Folder) -> None:
    """Raise DataError where all masks hold a single class, read with what classes.yaml says, because their other values are ignored.

    It is what becomes of masks 0/255 with 255 ignored. Masks are read until a second class is seen, most often one or two.
    """
    kept: set[int] = set()
    dropped: set[str] = set()
    for index, (_, path) in enumerate(samples.pairs):
        ids = samples[index].label
        kept |= {int(value) for value in np.unique(ids) if value != IGNORE_INDEX}
        if len(kept) > 1:
            return
        dropped |= set(values_shown(path, where=ids == IGNORE_INDEX))
    if dropped:
        left = samples.classes[next(iter(kept))] if kept else "no class"
        raise DataError(
            f"the {len(samples)} masks hold only {left}; everything else in them, value {', '.join(sorted(dropped))}, is ignored",
            hint=f"give that value to a class in {TABLE}, as in label_map: {{0: background, 255: object}}",
        )


def values_shown(path: Path, *, where: np.ndarray | None = None) -> list[str]:
    """The first few raw ids or colours of a mask (of its pixels `where`), as words."""
    raw = read_colours(path) if holds_colours(path) else read_label(path)
    chosen = raw[where] if where is not None else raw.reshape(-1, *raw.shape[2:])
    values = np.unique(chosen, axis=0)[:6].tolist()
    return [str(tuple(value)) if isinstance(value, list) else str(value) for value in values]
