"""Label files, whose values are kept as they are, and pairs of an image and its label."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from deeplabx.dataset.image_file import SIXTEEN_BIT_MODES, opened, read_image
from deeplabx.errors import DataError

ORIENTATION = 0x0112  # the EXIF tag


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
