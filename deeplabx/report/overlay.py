"""Class ids as images: colours, overlays, and panels of image, label and prediction."""

from collections.abc import Sequence

import numpy as np

Palette = Sequence[tuple[int, int, int]]
VOID_COLOUR = (255, 255, 255)


def colourised(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Ids H x W to uint8 RGB H x W x 3; ids without a colour are white."""
    table = np.full((1 << 16, 3), VOID_COLOUR, np.uint8)
    table[: len(palette)] = palette
    return table[ids]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The first three channels of an image H x W x C as RGB, or the first one in grey if there are fewer."""
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)


def overlay(image: np.ndarray, ids: np.ndarray, palette: Palette, *, opacity: float = 0.5) -> np.ndarray:
    """The image with its classes' colours laid over it, uint8 RGB H x W x 3. Classes whose colour is black,
    such as background, leave the image as it is.
    """
    colours = colourised(ids, palette)
    blended = as_rgb(image) * (1 - opacity) + colours * opacity
    coloured = colours.any(axis=2, keepdims=True)
    return np.where(coloured, np.rint(blended), as_rgb(image)).astype(np.uint8)


def panel(image: np.ndarray, label: np.ndarray, predicted: np.ndarray, palette: Palette) -> np.ndarray:
    """Image, label and prediction side by side; void is white in the label."""
    return np.hstack([as_rgb(image), colourised(label, palette), colourised(predicted, palette)])


def stacked(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels one above the other, narrower ones padded with white."""
    width = max(panel.shape[1] for panel in panels)
    return np.vstack(
        [
            np.pad(panel, ((0, 0), (0, width - panel.shape[1]), (0, 0)), constant_values=255)
            for panel in panels
        ]
    )
