"""An image with its label laid over it at the size in which it is shown: colours of classes, stripes where it
is void.
"""

from collections.abc import Sequence

import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.report.overlay import as_rgb, overlay
from deeplabx.report.page.images import nearest, shrunk

VOID = (255, 255, 255)
DARK, LIGHT = (40, 40, 40), (255, 255, 255)  # of the stripes
PERIOD, STRIPE = 8, 3  # pixels from one dark stripe to the next, and of its width


def label_overlay(
    image: np.ndarray, label: np.ndarray, palette: Palette, *, ignore_index: int, side: int
) -> np.ndarray:
    """uint8 RGB whose longest side is at most `side`; a smaller image is enlarged by a whole factor.

    image: uint8 H x W x C; label: H x W of train ids.
    """
    image, label = fitted(as_rgb(image), side=side), fitted(label, side=side, exact=True)
    shown = overlay(image, np.where(label == ignore_index, len(palette), label), [*palette, (0, 0, 0)])
    dark = stripes(label.shape)
    void = label == ignore_index
    for chosen, colour in ((void & dark, DARK), (void & ~dark, LIGHT)):
        shown[chosen] = shown[chosen] // 3 + np.array(colour, np.uint8) // 3 * 2
    return shown


def stripes(shape: Sequence[int]) -> np.ndarray:
    """Which pixels of an array H x W are in a dark diagonal stripe, H x W booleans."""
    down, across = np.ogrid[: shape[0], : shape[1]]
    return (down + across) % PERIOD < STRIPE


def fitted(array: np.ndarray, *, side: int, exact: bool = False) -> np.ndarray:
    """An image or label shrunk to `side`, or a smaller one enlarged by a whole factor."""
    factor = side // max(array.shape[:2])
    if factor < 1:
        return shrunk(array, most=side, exact=exact)
    return nearest(array, height=array.shape[0] * factor, width=array.shape[1] * factor)
