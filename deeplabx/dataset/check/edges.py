"""How the values of a mask change from pixel to pixel: interpolation and lossy compression leave traces in it
that hand-made and exported masks do not have.
"""

from collections.abc import Collection

import cv2
import numpy as np

from deeplabx.dataset.check.facts import Changes, Edges


def edges_of(values: np.ndarray, *, void: Collection[int] = ()) -> Edges:
    """Of ids H x W, or of colours H x W x 3. void: raw values, packed if they are colours, which are drawn as
    lines between classes and are no ramps.

    An edge that was smoothed, by interpolation or anti-aliasing, is a ramp: its pixels lie between their
    neighbours in value. A thin object between two classes can be one too, but most edges of a label map are
    steps. Noise, as JPEG leaves it, consists of pixels that are above or below all their neighbours.
    """
    whole = values if values.ndim == 2 else packed(values)
    turned = np.swapaxes(values, 0, 1)
    across = whole[:, 1:] != whole[:, :-1]
    down = whole[1:] != whole[:-1]
    between = is_between(values[:, :-2], values[:, 1:-1], values[:, 2:])
    above = is_between(turned[:, :-2], turned[:, 1:-1], turned[:, 2:])
    outside = ~between[1:-1] & ~above.T[:, 1:-1]
    alone = across[1:-1, 1:] & across[1:-1, :-1] & down[1:, 1:-1] & down[:-1, 1:-1]
    return Edges(
        changes_of(whole, across, between, void),
        changes_of(whole.T, down.T, above, void),
        int((alone & outside).sum()),
    )


def changes_of(whole: np.ndarray, change: np.ndarray, between: np.ndarray, void: Collection[int]) -> Changes:
    both = change[:, 1:] & change[:, :-1]
    ramps, lines = between & both, ~between & both
    ramps[ramps] = ~np.isin(whole[:, 1:-1][ramps], list(void))
    return Changes(int(change.sum()), int(ramps.sum()), int(lines.sum()))


def solid(values: np.ndarray) -> np.ndarray:
    """bool H x W: the pixels in the middle of 5 x 5 equal ones. No pixel of a thin line is, nor of a ramp."""
    own = values if values.dtype in (np.uint8, np.uint16) else values.astype(np.float32)
    square = np.ones((5, 5), np.uint8)
    equal = cv2.erode(own, square) == cv2.dilate(own, square)
    return np.asarray(equal.all(axis=2) if equal.ndim == 3 else equal)


def is_between(one: np.ndarray, middle: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool H x W: where `middle` lies between the other two, in each channel of colours."""
    found = ((one <= middle) & (middle <= other)) | ((one >= middle) & (middle >= other))
    return np.asarray(found.all(axis=2) if found.ndim == 3 else found)


def packed(colours: np.ndarray) -> np.ndarray:
    """uint32 H x W of uint8 colours H x W x 3."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), 2, 0)
    return red << 16 | green << 8 | blue
