"""Image and label files as far as they can be read, to show what is wrong with them. Training reads with
dataset/image_file.py, which refuses what it would not read whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from deeplabx.dataset.image_file import (
    Opened,
    identified,
    in_words,
    raw_samples,
    refuse_no_file,
    turned,
)
from deeplabx.errors import DataError

MOST_PIXELS = 50_000_000  # of a file that is decoded for a page; of a larger one, the header says its size
DAMAGED = "it is damaged: what can be read is shown"
GREY = ("1", "L", "LA", "La", "P", "PA")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

ReadLabel = Callable[[Path], np.ndarray]


class Found(NamedTuple):
    """pixels: None for a file that cannot be read. words: what is to be said of it; empty for a good one."""

    pixels: np.ndarray | None
    words: str = ""


def image_of(path: Path) -> Found:
    """uint8 RGB H x W x 3, as viewers show the file."""
    return read(path, shown_image)


def label_of(path: Path, *, as_stored: ReadLabel | None = None) -> Found:
    """The values of a mask: ids H x W, or uint8 colours H x W x 3. as_stored: how the data set reads them;
    where it refuses the file, or None, they are read as they are.
    """
    if as_stored is not None:
        try:
            refuse_large(path)
            return Found(as_stored(path))
        except DataError:
            pass  # what is wrong is what the finding says
    return read(path, stored_values)


def read(path: Path, values: Callable[[Opened], np.ndarray]) -> Found:
    try:
        refuse_large(path)
        try:
            with in_words(path, mask=False), path.open("rb") as file:
                return Found(values(identified(file, path, mask=False)))
        except DataError:
            with truncated_too(), in_words(path, mask=False), path.open("rb") as file:
                return Found(values(identified(file, path, mask=False)), DAMAGED)
    except DataError as error:
        return Found(None, f"it cannot be read: {error.message.removeprefix(f'{path}: ')}")
    except MemoryError:
        return Found(None, "it is too large for the memory there is")


def refuse_large(path: Path) -> None:
    """Raise DataError for what is no file, and for one with more pixels than are decoded; only the header is
    read.
    """
    with in_words(path, mask=False):
        refuse_no_file(path)
        with path.open("rb") as file:
            start = file.read(1)
            file.seek(0)
            if not start:
                raise ValueError("the file is empty")
            with truncated_too():  # the header of a damaged file
                width, height = identified(file, path, mask=False).header.size
    if width * height > MOST_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels are too many to be shown")


@contextmanager
def truncated_too() -> Iterator[None]:
    """Pillow decodes what there is of a truncated file."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def shown_image(found: Opened) -> np.ndarray:
    if found.image is None or found.image.mode in DEEP:
        pixels = in_eight_bits(found.samples())
        if pixels.ndim == 3 and found.image is None:
            pixels = pixels[..., 2::-1]  # of OpenCV
    else:
        straight = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(found.image.mode)
        image: Image.Image = found.image.convert(straight) if straight else found.image
        pixels = found.stored(np.array(image.convert("RGB")))
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], -1)[..., :1], 3, axis=2)
    return turned(np.ascontiguousarray(pixels[..., :3]), found.orientation())


def in_eight_bits(samples: np.ndarray) -> np.ndarray:
    """Samples of any type, stretched to 0..255."""
    if samples.dtype == np.uint8:
        return samples
    values = np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    return ((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def stored_values(found: Opened) -> np.ndarray:
    if found.image is None:
        samples = found.samples()
        return samples if samples.ndim == 2 else np.ascontiguousarray(in_eight_bits(samples)[..., 2::-1])
    if found.image.mode in GREY:
        samples = found.samples()
        samples = samples[..., 0] if samples.ndim == 3 else samples
        return samples if found.image.mode in ("P", "PA") else raw_samples(samples, found.header)
    if found.image.mode in DEEP:
        samples = found.samples()
        return (
            samples if samples.dtype.kind in "iu" else np.repeat(in_eight_bits(samples)[..., None], 3, axis=2)
        )
    return found.stored(np.array(found.image.convert("RGB")))
