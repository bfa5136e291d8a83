"""Class ids and images, written as files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplabx.dataset.contract import Palette
from deeplabx.errors import DataError

UNUSED_COLOUR = (255, 255, 255)


def place_for(path: Path) -> Path:
    """`path`, after creating its folder. Raises DataError if `path` is a link, as the write would go to its
    target, or a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise DataError(
            f"{path} is a link, which is never written through", hint="remove it, or use another folder"
        )
    if path.is_dir():
        raise DataError(f"{path} is a folder, where a file is to be written", hint="use another out=FOLDER")
    return path


def write_ids(path: Path, ids: np.ndarray, palette: Palette) -> None:
    """Class ids H x W as `save_ids` does, in a folder that is made if it is not there."""
    save_ids(place_for(path), ids, palette)


def save_ids(path: Path, ids: np.ndarray, palette: Palette) -> None:
    """uint8 ids H x W as a palette PNG; with a palette of more than 256 colours, uint16 ids as a grey PNG of
    16 bits.
    """
    image_of_ids(ids, palette).save(path, format="PNG")


def image_of_ids(ids: np.ndarray, palette: Palette) -> Image.Image:
    """The same as a PIL image. A palette of fewer than 256 colours is filled up: else Pillow packs ids into
    fewer bits and cuts large ones.
    """
    image = Image.fromarray(ids)
    if len(palette) <= 256:
        image.putpalette(
            [channel for colour in [*palette, *[UNUSED_COLOUR] * (256 - len(palette))] for channel in colour]
        )
    return image


def save_grey(path: Path, values: np.ndarray) -> None:
    """uint8 values H x W as a grey PNG."""
    Image.fromarray(values).save(path, format="PNG")


def write_image(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(place_for(path))


def save_image(path: Path, image: np.ndarray) -> None:
    """uint8 RGB H x W x 3 as a PNG, whatever the name of the file."""
    # On overlays of CamVid, level 3 takes 26 ms and 194 KiB an image, zlib's own 6 takes 60 ms and 188 KiB.
    Image.fromarray(image).save(path, format="PNG", compress_level=3)


def classes_table(classes: Sequence[str], palette: Palette, *, ignore_index: int) -> dict[str, Any]:
    """What classes.json says of the ids in the files beside it."""
    return {
        "classes": [
            {"id": number, "name": name, "colour": list(colour)}
            for number, (name, colour) in enumerate(zip(classes, palette, strict=True))
        ],
        "ignore_index": ignore_index,
    }


def write_classes(path: Path, classes: Sequence[str], palette: Palette, *, ignore_index: int) -> None:
    """classes.json: id, name and colour of each class. ignore_index: of labels; it is never predicted."""
    table = classes_table(classes, palette, ignore_index=ignore_index)
    text = json.dumps(table, indent=2, ensure_ascii=False)
    place_for(path).write_text(f"{text}\n", encoding="utf-8")
