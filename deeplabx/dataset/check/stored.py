"""A mask as it is stored, also one that training would refuse: its values show what is wrong with it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.image_file import FORMATS, MAX_PIXELS, in_words
from deeplabx.dataset.label_file import RawLabel, holds_colours, read_raw
from deeplabx.dataset.labels import packed
from deeplabx.errors import DataError

GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "P")


def stored_label(files: LabelledFiles, path: Path, *, alpha: str = "keep") -> RawLabel:
    """Ids H x W, or colours H x W x 3 where the file holds them or the data set reads them as such;
    transparent pixels have the values below, and unless `alpha` is keep they are in `void`. A lossy file is
    decoded too. Raises DataError for what cannot be decoded.
    """
    if not is_image(files):
        return files.read_raw(path)
    try:
        colours = files.label_map.by_colour or holds_colours(path)
        return read_raw(path, colours=colours, white=files.white or 1, alpha=alpha)
    except DataError as error:
        if error.kind != "lossy_mask":
            raise
    with in_words(path, mask=True), Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path}: {image.width} x {image.height} pixels are too many", kind="size_bomb")
        return RawLabel(np.array(image.convert("L" if image.mode in GREY else "RGB")))


def palette_of(files: LabelledFiles, path: Path, ids: Iterable[int]) -> dict[int, int]:
    """Packed colours of these ids in the palette of a mask; empty where it has none."""
    if not is_image(files):
        return {}
    try:
        with in_words(path, mask=True), Image.open(path, formats=FORMATS) as image:
            colours = image.getpalette("RGB") if image.mode == "P" else None
    except DataError:  # reading its pixels says so
        return {}
    if colours is None:
        return {}
    triples = [packed((red, green, blue)) for red, green, blue in zip(*[iter(colours)] * 3, strict=True)]
    return {raw: triples[raw] for raw in ids if raw < len(triples)}


def is_image(files: LabelledFiles) -> bool:
    """Whether labels are image files: not polygons, nor files that a subclass reads itself."""
    return type(files).read_raw is LabelledFiles.read_raw
