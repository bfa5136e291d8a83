"""Image files, read with Pillow: a damaged file raises an error."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deeplabx.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 300_000_000  # checked in the header, before anything is decoded
# On damaged tags; what cannot be read raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked instead, without Pillow's warning
# on damaged files and odd EXIF, by fuzzing
PILLOW_RAISES = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    struct.error,
)
SIXTEEN_BIT_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The opened image. Pillow's errors become a DataError that names the file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "PNG":
                image.verify()  # checksums, which decoding ignores: half of a file may be zeros
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {image.width} x {image.height} pixels exceed the limit of {MAX_PIXELS:,}"
                )
            if image.mode not in SIXTEEN_BIT_MODES and any(";16" in str(tile[3]) for tile in image.tile):
                raise DataError(
                    f"{path}: its 16 bits per channel would be truncated to 8",
                    hint="convert it to 8 bits first",
                )
            yield image
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except PILLOW_RAISES as error:
        reason = "not a readable image" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{path}: {reason}", hint=f"readable formats: {', '.join(FORMATS)}") from None


def read_image(path: Path, *, upright: bool = True) -> np.ndarray:
    """uint8 H x W x 3, RGB. `upright` turns the image as its EXIF orientation says, as viewers do."""
    with opened(path) as image:
        refuse_deep(image, path)
        turned = ImageOps.exif_transpose(image) if upright else image
        return np.array(turned.convert("RGB"))


def as_image(source: str | Path | Image.Image | np.ndarray, *, channels: int = 3) -> np.ndarray:
    """uint8 H x W x channels from a file, a PIL image (read like a file) or an array. Raises DataError for
    anything else.
    """
    if isinstance(source, str | Path):
        source = read_image(Path(source))
    elif isinstance(source, Image.Image):
        refuse_deep(source, "the PIL image")
        source = np.array(ImageOps.exif_transpose(source).convert("RGB"))
    if not isinstance(source, np.ndarray):
        raise DataError(
            f"a {type(source).__name__} is not an image",
            hint="give a path, a PIL image or a uint8 array H x W x channels; of a tensor, tensor.numpy()",
        )
    shape = " x ".join(map(str, source.shape))
    if source.dtype != np.uint8:
        raise DataError(
            f"the image is {source.dtype}, but must be uint8, with pixels from 0 to 255",
            hint="for floats from 0 to 1: (255 * image).round().astype(np.uint8)",
        )
    if source.ndim == 2 and channels == 3:
        raise DataError(
            f"the image is a grey array {shape}, the model needs H x W x 3",
            hint="use np.repeat(image[..., None], 3, axis=2)",
        )
    if source.ndim != 3 or source.shape[2] != channels or 0 in source.shape:
        hints = {1: "np.repeat(image, 3, axis=2) makes it one", 4: "of RGBA, image[..., :3]"}
        hint = hints.get(source.shape[-1], "") if source.ndim == 3 and channels == 3 else ""
        if source.shape[:1] == (channels,):
            hint = "channels come last: image.transpose(1, 2, 0)"
        raise DataError(f"the image is an array {shape}, the model needs H x W x {channels}", hint=hint)
    return source


def refuse_deep(image: Image.Image, name: object) -> None:
    """Raise DataError for an image of more than 8 bits per channel."""
    if image.mode in SIXTEEN_BIT_MODES:
        raise DataError(
            f"{name}: mode {image.mode} has more than 8 bits per channel",
            hint="convert it to 8 bits first",
        )
