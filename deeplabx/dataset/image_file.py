"""Image files, opened once each and read with Pillow: a damaged file raises an error, and so does one that
would not be read whole.
"""

import io
import stat
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deeplabx.dataset.image_header import (
    LOSSLESS,
    LOSSY,
    MOST_SAMPLES,
    TIFF_STARTS,
    YCBCR,
    Header,
    Tiff,
    foreign_words,
    header_of_image,
    header_of_tiff,
    orientation_of,
    tiff_of,
)
from deeplabx.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
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
OTHER_COLOURS = ("LAB", "HSV")  # not converted to RGB
SAMPLES_PER_PIXEL = 277  # a tag of TIFF
DROP_ALPHA = "'dataset.channels=[0,1,2]'"


# --- opening ------------------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """An opened file. image: None for a TIFF that OpenCV decodes."""

    path: Path | str  # or, of an image that is no file, what it is called in an error
    file: BinaryIO
    header: Header
    image: Image.Image | None

    def verify(self) -> None:
        """Check a PNG's checksums, which decoding ignores: half of a file may be zeros."""
        if self.header.format == "PNG":
            self.file.seek(0)
            Image.open(self.file, formats=["PNG"]).verify()

    def by_opencv(self) -> np.ndarray:
        """The samples as stored, but turned upright; of several channels, blue, green, red and the fourth."""
        self.file.seek(0)
        content = np.frombuffer(self.file.read(), np.uint8)
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        cv2.utils.logging.setLogLevel(level)
        if pixels is None:
            raise DataError(
                f"{self.path}: not a readable image: "
                f"{self.header.tiff.words if self.header.tiff else 'it is'}, damaged or not supported",
                hint="save it as PNG, or as a TIFF of 8 or 16 bits",
            )
        return pixels

    def samples(self) -> np.ndarray:
        """The decoded samples as stored: not turned by the EXIF orientation."""
        return self.stored(self.by_opencv() if self.image is None else np.array(self.image))

    def stored(self, pixels: np.ndarray) -> np.ndarray:
        """Decoded pixels as they are stored: Pillow and OpenCV turn those of a TIFF."""
        return inverse_turned(pixels, self.header.orientation) if self.header.tiff else pixels

    def orientation(self) -> int:
        """EXIF's orientation, known for certain when the pixels are decoded."""
        late = self.header.format == "PNG" and self.header.orientation == 1 and self.image is not None
        return orientation_of(self.image) if late and self.image else self.header.orientation


@contextmanager
def opened(path: Path, *, mask: bool, channels: Sequence[int] | None = None) -> Iterator[Opened]:
    """The opened file, after all that its header can show was checked; its pixels are not read yet.

    mask: whether it holds the ids or colours of a label. channels: of an image, those that are used. What
    Pillow raises becomes a DataError that names the file.
    """
    with in_words(path, mask=mask):
        refuse_no_file(path)
        with path.open("rb") as file:
            yield examined(file, path, mask=mask, channels=channels)


@contextmanager
def opened_content(content: bytes, name: str, *, channels: Sequence[int] | None = None) -> Iterator[Opened]:
    """The same of the content of an image file, such as one that was received. name: its name in errors."""
    with in_words(name, mask=False):
        yield examined(io.BytesIO(content), name, mask=False, channels=channels)


def examined(file: BinaryIO, path: Path | str, *, mask: bool, channels: Sequence[int] | None) -> Opened:
    found = identified(file, path, mask=mask)
    refuse_header(found.header, path, mask=mask, channels=channels)
    return found


@contextmanager
def in_words(path: Path | str, *, mask: bool) -> Iterator[None]:
    """What Pillow raises becomes a DataError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: not a readable image", hint=f"readable formats: {', '.join(FORMATS)}"
        ) from None
    except PILLOW_RAISES as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = how_to_save(mask=mask) if "a TIFF of" in reason else f"readable formats: {', '.join(FORMATS)}"
        raise DataError(f"{path}: {reason}", hint=hint) from None


def how_to_save(*, mask: bool) -> str:
    """Instead of a TIFF of channels or samples that are not read."""
    if mask:
        return (
            "save masks with one channel of whole numbers of 8 or 16 bits; -9999 for no data must become 255"
        )
    return (
        "save three channels of 8 bits as RGB, as in gdal_translate -b 1 -b 2 -b 3 -ot Byte -scale "
        "-co PHOTOMETRIC=RGB;\nwith the same -scale LOW HIGH for all images"
    )


def header_of(path: Path, *, mask: bool, channels: Sequence[int] | None = None) -> Header:
    """The header of a file. Raises DataError for all that a header can show to be wrong; no pixel is
    decoded.
    """
    with opened(path, mask=mask, channels=channels) as found:
        return found.header


def refuse_no_file(path: Path) -> None:
    """Raise DataError for what is not a file, before it is opened: opening a pipe would wait for a writer."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder, not an image file")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is not a regular file, but a pipe, socket or device")


def identified(file: BinaryIO, path: Path | str, *, mask: bool) -> Opened:
    """The file's format and header. Raises what Pillow raises."""
    start = file.read(64)
    if not start:
        raise ValueError("not a readable image: the file is empty")
    if start.startswith(TIFF_STARTS):
        return identified_tiff(file, path, tiff_of(file, start), mask=mask)
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        words = foreign_words(start)
        if words:
            raise ValueError(f"not a readable image: it is {words}") from None
        raise
    return Opened(path, file, header_of_image(image, file, start), image)


def identified_tiff(file: BinaryIO, path: Path | str, tiff: Tiff, *, mask: bool) -> Opened:
    by_opencv = Opened(path, file, header_of_tiff(tiff, "I"), None)
    if mask:
        refuse_lossy(by_opencv.header, path)
    if tiff.for_opencv:
        return by_opencv
    unreadable = ValueError(f"not a readable image: {tiff.words}")
    if tiff.samples > MOST_SAMPLES or tiff.first("compression", 1) not in LOSSLESS | LOSSY:
        raise unreadable
    file.seek(0)
    try:
        image = Image.open(file, formats=["TIFF"])
    except (UnidentifiedImageError, KeyError):
        if tiff.of_integers:
            return by_opencv
        raise unreadable from None
    return Opened(path, file, header_of_tiff(tiff, image.mode), image)


def refuse_lossy(header: Header, path: object) -> None:
    """Raise DataError for a label whose compression changes pixels, whatever the file's name says."""
    if header.lossy:
        raise DataError(
            f"{path}: a mask must not be a {header.lossy} file: compression changes ids",
            hint="save masks as PNG, from what they were before; this file's ids are lost",
            kind="lossy_mask",
        )


def refuse_header(header: Header, path: object, *, mask: bool, channels: Sequence[int] | None = None) -> None:
    """Raise DataError for what cannot be used, or would not be used whole, as its header shows."""
    width, height = header.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: {width} x {height} pixels exceed the limit of {MAX_PIXELS:,}", kind="size_bomb"
        )
    if mask:
        refuse_lossy(header, path)
    if mask and header.tiff and header.tiff.photometric == YCBCR:
        raise DataError(
            f"{path}: a mask must not be a YCbCr file: the conversion changes ids",
            hint="save masks as PNG",
            kind="lossy_mask",
        )
    if header.pages > 1 and header.format != "MPO":  # a photo, and other views of it beside it
        raise DataError(
            f"{path} has {header.pages} pages or frames, of which only one would be used",
            hint="save each as a file of its own",
            kind="several_pages",
        )
    if header.mode not in SIXTEEN_BIT_MODES and header.bits > 8:
        raise DataError(
            f"{path}: its {header.bits} bits per channel would be truncated to 8",
            hint="convert it to 8 bits first",
            kind="more_than_8_bits",
        )
    if header.mode == "F" or (header.mode in SIXTEEN_BIT_MODES and not mask):
        refuse_deep(header.mode, path, mask=mask)
    if header.mode in OTHER_COLOURS:
        raise DataError(f"{path}: colour mode {header.mode} is not supported", hint="convert it to RGB first")
    tiff = header.tiff
    if tiff and tiff.unused and (mask or channels is None):
        raise DataError(
            f"{path} has {tiff.samples} channels per pixel, of which {tiff.samples - tiff.unused} would be "
            "used",
            hint="save the mask with one channel of ids" if mask else f"{DROP_ALPHA} reads the first three",
            kind="more_channels",
        )


def refuse_deep(mode: str, name: object, *, mask: bool = False) -> None:
    """Raise DataError for an image of more than 8 bits per channel."""
    if mode == "F" and mask:
        raise DataError(
            f"{name}: a mask must hold whole numbers, not floating point",
            hint=how_to_save(mask=True),
            kind="not_whole_numbers",
        )
    if mode in SIXTEEN_BIT_MODES:
        raise DataError(
            f"{name}: mode {mode} has more than 8 bits per channel",
            hint="convert it to 8 bits first",
            kind="more_than_8_bits",
        )


# --- pixels -------------------------------------------------------------------------------------------------


def read_image(path: Path, *, upright: bool = True, channels: Sequence[int] | None = None) -> np.ndarray:
    """uint8 H x W x 3, RGB. `upright` turns the image as its EXIF orientation says, as viewers do. channels:
    indices of the file's channels that become red, green and blue.
    """
    pixels, orientation = read_stored(path, channels=channels)
    return turned(pixels, orientation) if upright else pixels


def read_stored(path: Path, *, channels: Sequence[int] | None = None) -> tuple[np.ndarray, int]:
    """uint8 H x W x 3 as stored, and the EXIF orientation in which viewers show it."""
    with opened(path, mask=False, channels=channels) as found:
        return decoded(found, channels=channels)


def upright(found: Opened, *, channels: Sequence[int] | None = None) -> np.ndarray:
    """uint8 H x W x 3 of an opened image, as viewers show it."""
    return turned(*decoded(found, channels=channels))


def decoded(found: Opened, *, channels: Sequence[int] | None) -> tuple[np.ndarray, int]:
    """uint8 H x W x 3 as stored, and the EXIF orientation."""
    found.verify()
    if channels is not None and found.header.tiff and found.header.tiff.raw_by_opencv:
        raw = found.by_opencv()
        if raw.ndim != 3 or raw.shape[2] != 4:
            raise DataError(f"{found.path}: its channels cannot be read: {found.header.tiff.words}")
        pixels = chosen([raw[..., index] for index in (2, 1, 0, 3)], channels, found.path)
    else:
        assert found.image is not None
        pixels = rgb_of(found.image, found.path, channels=channels, header=found.header)
    return found.stored(pixels), found.orientation()


def rgb_of(
    image: Image.Image, name: object, *, channels: Sequence[int] | None, header: Header | None = None
) -> np.ndarray:
    """uint8 H x W x 3 of a PIL image. Raises DataError for transparency, unless `channels` says what to use;
    a fourth channel is the transparency, a grey image counts as three equal channels.
    """
    samples = np.array(image)
    alpha = alpha_of(image, samples, header)
    if image.mode in ("RGB", "RGBA"):
        colours = samples if image.mode == "RGB" else np.ascontiguousarray(samples[..., :3])
    else:
        straight = {"RGBa": "RGBA", "La": "LA", "PA": "RGBA"}.get(image.mode)  # else RGB is not defined
        colours = np.array((image.convert(straight) if straight else image).convert("RGB"))
    if channels is not None:
        own = [colours[..., index] for index in range(3)]
        return chosen(own if alpha is None else [*own, alpha], channels, name)
    if alpha is not None and alpha.min() < 255:
        raise DataError(
            f"{name}: {int((alpha < 255).sum()):,} of {alpha.size:,} pixels are transparent",
            hint=f"{DROP_ALPHA} uses the colours below; or save it without transparency",
            kind="transparent",
        )
    return colours


def chosen(own: Sequence[np.ndarray], channels: Sequence[int], name: object) -> np.ndarray:
    """The channels of these indices, H x W x their number, of those that a file has (`own`). Raises DataError
    for an index beyond the last.
    """
    if max(channels) >= len(own):
        raise DataError(
            f"dataset.channels={list(channels)}, but {name} has {len(own)} channels that can be read",
            hint="indices count from 0",
        )
    return np.stack([own[index] for index in channels], axis=2)


def alpha_of(image: Image.Image, samples: np.ndarray, header: Header | None = None) -> np.ndarray | None:
    """The opacity of each pixel, 0 to 255; None for an image without transparency. samples: of the image."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return samples[..., -1]
    transparent = image.info.get("transparency")  # an index or colour, or the opacity of each index
    if transparent is None:
        return None
    if image.mode == "P":
        opacity = np.full(256, 255, np.uint8)
        if isinstance(transparent, bytes):
            opacity[: len(transparent)] = np.frombuffer(transparent[:256], np.uint8)
        else:
            opacity[transparent] = 0
        return opacity[samples]
    if image.mode == "RGB":
        return np.where((samples == np.array(transparent)).all(axis=2), 0, 255).astype(np.uint8)
    if image.mode == "1":
        transparent = bool(transparent)  # 1, or 255 in newer releases of Pillow
    elif header is not None:  # it is a sample of the file
        samples = raw_samples(samples, header)
    return np.where(samples == transparent, 0, 255).astype(np.uint8)


def raw_samples(pixels: np.ndarray, header: Header) -> np.ndarray:
    """The samples of a grey file, from pixels as Pillow gives them: in 8 bits, with white as 255 and black as
    0 (but PGM of more bits as 0 to 65535). Each sample has a value of its own, so this is exact.
    """
    if pixels.dtype == bool:
        return (~pixels if header.inverted else pixels).astype(np.uint8)
    white = 255 if pixels.dtype == np.uint8 else 65535
    if (white > 255 and header.format != "PPM") or (header.maximum == white and not header.inverted):
        return pixels
    values = np.arange(white + 1) * header.maximum
    table = (2 * values + white) // (2 * white)  # rounded
    if header.inverted:
        table = header.maximum - table
    return table.astype(np.uint8 if header.maximum < 256 else np.int32)[pixels]


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels as they are shown: as ImageOps.exif_transpose, but of an array."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)  # no copy of those that are not turned


def inverse_turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `turned`."""
    return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))


# --- images from Python -------------------------------------------------------------------------------------


def as_image(
    source: str | Path | Image.Image | np.ndarray,
    *,
    channels: int = 3,
    selected: Sequence[int] | None = None,
) -> np.ndarray:
    """uint8 H x W x channels from a file, a PIL image (read like a file) or an array. Raises DataError for
    anything else.

    selected: dataset.channels, the indices of the channels that are used.
    """
    if isinstance(source, str | Path):
        source = read_image(Path(source), channels=selected)
    elif isinstance(source, Image.Image):
        source = of_pillow(source, selected)
    elif isinstance(source, np.ndarray) and selected is not None and source.ndim == 3:
        source = chosen([source[..., index] for index in range(source.shape[2])], selected, "the array")
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


def of_pillow(image: Image.Image, channels: Sequence[int] | None) -> np.ndarray:
    """uint8 H x W x 3 of a PIL image, upright. One of several pages is used if it has been copied or sought
    to.
    """
    name = "the PIL image"
    pages = getattr(image, "n_frames", 1) if image.format != "MPO" and not image.tell() else 1
    if pages > 1:
        raise DataError(
            f"{name} has {pages} pages or frames, of which only one would be used",
            hint="give the one that is meant: image.seek(...), then image.copy()",
        )
    refuse_deep(image.mode, name)
    if image.mode in OTHER_COLOURS:
        raise DataError(f"{name}: colour mode {image.mode} is not supported", hint='use image.convert("RGB")')
    stated = getattr(image, "tag_v2", {}).get(SAMPLES_PER_PIXEL, 1)
    if channels is None and stated > len(image.getbands()):
        raise DataError(
            f"{name} has {stated} channels per pixel, of which {len(image.getbands())} would be used",
            hint=f"{DROP_ALPHA} reads the first three",
        )
    return rgb_of(ImageOps.exif_transpose(image), name, channels=channels)
