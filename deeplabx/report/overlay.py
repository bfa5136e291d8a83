"""Class ids as images: colours and overlays."""

from collections.abc import Sequence

import numpy as np

Palette = Sequence[tuple[int, int, int]]
VOID_COLOUR = (255, 255, 255)
BLOCK = 1 << 16  # pixels that are blended at a time


def colourised(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Class ids H x W to uint8 RGB H x W x 3; ids without a colour are white."""
    last = max(255, len(palette))  # has no colour, and neither has anything beyond
    table = np.full((last + 1, 3), VOID_COLOUR, np.uint8)
    table[: len(palette)] = palette
    if ids.dtype != np.uint8:
        ids = np.where((ids < 0) | (ids > last), last, ids)
    return table[ids]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The first three channels of an image H x W x C as RGB, or the first one in grey if there are fewer."""
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)


def overlay(image: np.ndarray, ids: np.ndarray, palette: Palette, *, opacity: float = 0.5) -> np.ndarray:
    """The image with its classes' colours laid over it, uint8 RGB H x W x 3. Classes whose colour is black,
    such as background, leave the image as it is.
    """
    blended = np.empty((*ids.shape, 3), np.uint8)
    rows = max(1, BLOCK // ids.shape[1])  # floats of a whole image would take 50 bytes a pixel
    for top in range(0, len(ids), rows):
        part = slice(top, top + rows)
        colours, below = colourised(ids[part], palette), as_rgb(image[part])
        mixed = np.rint(below * (1 - opacity) + colours * opacity)
        blended[part] = np.where(colours.any(axis=2, keepdims=True), mixed, below)
    return blended
