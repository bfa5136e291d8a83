"""Label files, whose samples are kept as they are stored, and pairs of an image and its label."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplabx.dataset.image_file import (
    SIXTEEN_BIT_MODES,
    Opened,
    alpha_of,
    header_of,
    opened,
    raw_samples,
    read_stored,
    turned,
)
from deeplabx.dataset.image_header import SIGNED, Header
from deeplabx.errors import DataError

LARGEST_ID = 65_535
GREY = ("1", "L", "LA", "La", *SIXTEEN_BIT_MODES)
WITH_IDS = (*GREY, "P", "PA")
WITH_COLOURS = ("RGB", "RGBA", "RGBa")


class RawLabel(NamedTuple):
    """A label as it is stored, before its values are mapped to train ids and before it is turned.

    void: pixels that are ignored whatever their value. bits: per pixel or channel, in the file.
    """

    values: np.ndarray  # H x W of ids, uint8 or int32, or uint8 H x W x 3 of colours
    void: np.ndarray | None = None  # bool H x W
    orientation: int = 1  # EXIF's
    bits: int = 8

    def upright(self) -> "RawLabel":
        void = None if self.void is None else turned(self.void, self.orientation)
        return RawLabel(turned(self.values, self.orientation), void, 1, self.bits)


# --- reading ------------------------------------------------------------------------------------------------


def read_label(path: Path, *, white: int | None = 1, alpha: str = "refuse") -> np.ndarray:
    """H x W of raw ids from a palette or grey file, as stored: uint8, or int32 from a file of more bits.

    white: what the white of a one-bit file is, 1 or 255; None raises DataError for a file that has white
    pixels. alpha: `refuse` raises DataError for transparent pixels, `keep` reads the ids below.
    """
    return read_raw(path, colours=False, white=white, alpha=alpha).values


def read_colours(path: Path, *, alpha: str = "refuse") -> np.ndarray:
    """uint8 H x W x 3 of a label file that holds colours, as stored. A palette's colours are looked up."""
    return read_raw(path, colours=True, alpha=alpha).values


def holds_colours(path: Path) -> bool:
    """Whether a label file holds colours rather than ids; only its header is read."""
    return header_of(path, mask=True).mode in WITH_COLOURS


def read_raw(path: Path, *, colours: bool, white: int | None = 1, alpha: str = "refuse") -> RawLabel:
    """A label of ids or of colours; as `read_label`. alpha=`void`: pixels that are not opaque are void."""
    with opened(path, mask=True) as found:
        found.verify()
        pixels = found.samples()
        header = found.header
        values = colours_of(found, pixels) if colours else ids_of(found, pixels, white=white)
        opacity = None if found.image is None else alpha_of(found.image, pixels, header)
        void = None if opacity is None or opacity.min() == 255 else opacity < 255
        if void is not None and alpha == "refuse":
            raise DataError(
                f"{path}: {int(void.sum()):,} of {void.size:,} pixels of the mask are transparent",
                hint="save the mask without transparency; or, with dataset=folder, set "
                "dataset.mask_alpha=void to ignore them, or keep to use the values below",
                kind="transparent",
            )
        return RawLabel(values, void if alpha == "void" else None, found.orientation(), header.bits)


def colours_of(found: Opened, pixels: np.ndarray) -> np.ndarray:
    if found.image is None or found.image.mode in SIXTEEN_BIT_MODES:
        raise DataError(
            f"{found.path}: mode {found.header.mode} holds ids of more than 8 bits, not colours",
            hint="map ids in label_map",
        )
    if found.image.mode in WITH_COLOURS:
        return np.ascontiguousarray(pixels[..., :3])
    straight = {"La": "LA", "PA": "RGBA"}.get(found.image.mode)
    shown = np.array((found.image.convert(straight) if straight else found.image).convert("RGB"))
    # a palette or grey TIFF, which Pillow has turned
    return found.stored(shown)


def ids_of(found: Opened, pixels: np.ndarray, *, white: int | None) -> np.ndarray:
    header, path = found.header, found.path
    if header.mode not in WITH_IDS:
        colours = np.unique(colours_of(found, pixels).reshape(-1, 3), axis=0)
        shown = ", ".join(str(tuple(int(channel) for channel in colour)) for colour in colours[:4])
        raise DataError(
            f"{path}: a label file must hold ids (palette or grey), but this one is {header.mode} with "
            f"{len(colours)} colours: {shown}{' ...' if len(colours) > 4 else ''}",
            hint="save it with ids; if all masks hold colours, dataset=folder maps them to classes in "
            "classes.yaml",
            kind="colour_mask",
        )
    if pixels.dtype == bool or (header.mode == "L" and header.maximum == 1):
        return of_one_bit(pixels != 0, header, path, white=white)
    if header.mode in ("P", "L") and not header.tiff:
        return pixels if header.mode == "P" else raw_samples(pixels, header)
    if header.mode == "La" and found.image is not None:  # ids times alpha
        pixels = found.stored(np.array(found.image.convert("LA")))
    values = pixels[..., 0] if header.mode in ("LA", "La", "PA") else pixels
    if header.mode == "L":
        values = raw_samples(values, header)
        signed = header.tiff is not None and header.tiff.first("sample format", 1) == SIGNED
        values = values.view(np.int8) if signed else values
    elif values.dtype != np.uint8:
        values = raw_samples(values, header)
    return within_range(values, path)


def within_range(values: np.ndarray, path: object) -> np.ndarray:
    """Ids as uint8 or int32. Raises DataError for floating point, and for an id below 0 or above 65535."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "iu" or values.ndim != 2:
        raise DataError(
            f"{path}: a mask must hold whole numbers, not {values.dtype}", kind="not_whole_numbers"
        )
    wrong = (values < 0) | (values > LARGEST_ID)
    if wrong.any():
        raise DataError(
            f"{path}: {int(wrong.sum()):,} ids are not from 0 to {LARGEST_ID}, the first: "
            f"{int(values[wrong][0])}",
            hint="write other numbers into the mask; where they mean no data, 255, and ignore: [255] in "
            "classes.yaml",
            kind="unknown_value",
        )
    return values.astype(np.uint8 if values.dtype == np.int8 else np.int32)


def of_one_bit(shown: np.ndarray, header: Header, path: object, *, white: int | None) -> np.ndarray:
    """uint8 ids of a one-bit file, from whether each pixel is shown white.

    A viewer shows white as 255, and programs that shrink files store 0 and 255 in one bit. If white is 1,
    the ids are the samples; they differ from what is shown only in a TIFF in which 0 is white.
    """
    samples = ~shown if header.inverted else shown
    if white is None and (shown.any() or samples.any()):
        raise DataError(
            f"{path}: a one-bit mask, in which white may be id 1 or 255, and both are known",
            hint="save it with 8 bits per pixel, or give only one of the two ids a meaning",
            kind="one_bit_mask",
        )
    return shown.astype(np.uint8) * np.uint8(255) if white == 255 else samples.astype(np.uint8)


# --- pairs --------------------------------------------------------------------------------------------------


def read_pair(
    image_path: Path,
    label_path: Path,
    *,
    read: Callable[[Path], RawLabel],
    channels: Sequence[int] | None = None,
) -> tuple[np.ndarray, RawLabel]:
    """Image and raw label of one size. Raises DataError as `fitting` does."""
    label = read(label_path)
    image, orientation = read_stored(image_path, channels=channels)
    turn_image, turn_label = fitting(
        (image_path, (image.shape[1], image.shape[0]), orientation),
        (label_path, (label.values.shape[1], label.values.shape[0]), label.orientation),
    )
    return (turned(image, orientation) if turn_image else image), (label.upright() if turn_label else label)


def fitting(
    image: tuple[Path, tuple[int, int], int], label: tuple[Path, tuple[int, int], int]
) -> tuple[bool, bool]:
    """Whether the image and the label are to be turned as EXIF says; each is path, stored size, orientation.

    Both are, if they have the same orientation. Else one is turned only if that makes the sizes agree. Raises
    DataError if the sizes differ, or if they agree in more than one way.
    """
    (image_path, image_size, image_turn), (label_path, label_size, label_turn) = image, label
    if image_turn == label_turn:
        ways = [(image_turn != 1,) * 2] if image_size == label_size else []
    else:
        ways = [
            (turn_image, turn_label)
            for turn_image in ((False, True) if image_turn != 1 else (False,))
            for turn_label in ((False, True) if label_turn != 1 else (False,))
            if shown_size(image_size, image_turn if turn_image else 1)
            == shown_size(label_size, label_turn if turn_label else 1)
        ]
    if not ways:
        raise DataError(
            f"{image_path} is {image_size[0]} x {image_size[1]} but {label_path} is {label_size[0]} x "
            f"{label_size[1]}",
            kind="size_mismatch",
        )
    if len(ways) > 1:
        first, other = (image_path, label_path) if image_turn != 1 else (label_path, image_path)
        raise DataError(
            f"{first} is rotated by EXIF, and the size of {other} matches with and without it",
            hint="save the image upright, without EXIF",
            kind="exif",
        )
    turn_image, turn_label = ways[0]
    return turn_image, turn_label


def shown_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of an image after it is turned as EXIF's orientation says."""
    return size[::-1] if orientation > 4 else size
