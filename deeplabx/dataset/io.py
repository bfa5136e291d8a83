"""Images and label files, read with Pillow: a damaged file raises an error, and palette indices are kept as
ids.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deeplabx.dataset.contract import Palette
from deeplabx.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
ORIENTATION = 0x0112  # the EXIF tag
UNUSED_COLOUR = (255, 255, 255)
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


def read_label(path: Path) -> np.ndarray:
    """H x W of raw ids from a palette, grey or one-bit file: uint8, or int32 from a 16-bit one."""
    with opened(path) as image:
        if image.mode in ("P", "L"):
            return np.array(image)
        if image.mode == "1":
            return np.array(image).astype(np.uint8)
        if image.mode == "LA":
            return np.array(image.getchannel("L"))
        if image.mode in ("I", "I;16", "I;16B", "I;16L"):
            return np.array(image).astype(np.int32)
        colours = np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)
    shown = ", ".join(str(tuple(int(channel) for channel in colour)) for colour in colours[:4])
    raise DataError(
        f"{path}: a label file must hold ids (palette or grey), but this one is {image.mode} with "
        f"{len(colours)} colours: {shown} ...",
        hint="dataset=folder reads colours: map each one to a class in classes.yaml",
    )


def holds_colours(path: Path) -> bool:
    """Whether a label file holds colours rather than ids; only its header is read."""
    with opened(path) as image:
        return image.mode in ("RGB", "RGBA")


def read_colours(path: Path) -> np.ndarray:
    """uint8 H x W x 3 of a label file that holds colours. A palette's colours are looked up; transparency is
    dropped.
    """
    with opened(path) as image:
        if image.mode in SIXTEEN_BIT_MODES:
            raise DataError(
                f"{path}: mode {image.mode} holds ids of more than 8 bits, not colours",
                hint="map ids in label_map",
            )
        return np.array(image.convert("RGB"))


def read_pair(
    image_path: Path, label_path: Path, *, read: Callable[[Path], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Image and raw label of one size; the EXIF orientation is applied only if it makes the sizes agree.

    Raises DataError if the sizes differ, or if they agree both with and without the rotation.
    """
    label = read(label_path)
    with opened(image_path) as opened_image:
        turned = opened_image.getexif().get(ORIENTATION, 1) != 1
    image = read_image(image_path, upright=False)
    if turned:
        upright = read_image(image_path)
        if upright.shape == image.shape == (*label.shape[:2], 3):
            raise DataError(
                f"{image_path} is rotated by EXIF, and the size of {label_path} matches with and without it",
                hint="save the image upright, without EXIF",
            )
        image = upright if upright.shape[:2] == label.shape[:2] else image
    if image.shape[:2] != label.shape[:2]:
        raise DataError(
            f"{image_path} is {image.shape[1]} x {image.shape[0]} but {label_path} is {label.shape[1]} x "
            f"{label.shape[0]}"
        )
    return image, label


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
    """uint8 ids H x W as a palette PNG. The palette is filled up to 256 colours: with fewer, Pillow packs ids
    into fewer bits and cuts large ones.
    """
    image = Image.fromarray(ids)
    image.putpalette(
        [channel for colour in [*palette, *[UNUSED_COLOUR] * (256 - len(palette))] for channel in colour]
    )
    image.save(place_for(path), format="PNG")


def write_image(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(place_for(path))
