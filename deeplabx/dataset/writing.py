"""Class ids and images, written as files."""

from pathlib import Path

import numpy as np
from PIL import Image

from deeplabx.dataset.contract import Palette
from deeplabx.errors import DataError

UNUSED_COLOUR = (255, 255, 255)


def place_for(path: Path) -> Path:
    """`path`, after creating its folder. Raises DataError if `path` is a link: the write would go to its
    target.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise DataError(
            f"{path} is a link, which is never written through", hint="remove it, or use another folder"
        )
    return path


def write_ids(path: Path, ids: np.ndarray, palette: Palette) -> None:
    """uint8 ids H x W as a palette PNG; with a palette of more than 256 colours, uint16 ids as a grey PNG of
    16 bits.
    """
    image_of_ids(ids, palette).save(place_for(path), format="PNG")


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


def write_image(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(place_for(path))
