"""How the values of a mask change from pixel to pixel: interpolation and lossy compression leave traces in it
that hand-made and exported masks do not have.
"""

import numpy as np

from deeplabx.dataset.check.facts import Edges


def edges_of(values: np.ndarray) -> Edges:
    """Of ids H x W, or of colours H x W x 3.

    An edge that was smoothed, by interpolation or anti-aliasing, is a ramp: its pixels lie between their
    neighbours in value. A thin object between two classes can be one too, but most edges of a label map are
    steps. Noise, as JPEG leaves it, consists of pixels that differ from all their neighbours.
    """
    whole = values if values.ndim == 2 else packed(values)
    across = whole[:, 1:] != whole[:, :-1]
    down = whole[1:] != whole[:-1]
    left, middle, right = values[:, :-2], values[:, 1:-1], values[:, 2:]
    between = ((left <= middle) & (middle <= right)) | ((left >= middle) & (middle >= right))
    if values.ndim == 3:
        between = between.all(axis=2)
    ramps = between & across[:, 1:] & across[:, :-1]
    alone = np.zeros(whole.shape, bool)
    alone[1:-1, 1:-1] = across[1:-1, 1:] & across[1:-1, :-1] & down[1:, 1:-1] & down[:-1, 1:-1]
    return Edges(int(across.sum()), int(ramps.sum()), int(alone.sum()))


def packed(colours: np.ndarray) -> np.ndarray:
    """uint32 H x W of uint8 colours H x W x 3."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), 2, 0)
    return red << 16 | green << 8 | blue
