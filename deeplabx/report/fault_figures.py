"""Figures of a fault: the image, its mask as it is stored, and where the values at fault are."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from deeplabx.dataset.check.finding import Example
from deeplabx.dataset.labels import unpacked
from deeplabx.report.label_overlay import fitted
from deeplabx.report.lenient import ReadLabel, image_of, label_of
from deeplabx.report.page import Block, Figure, Gallery, Legend, Section, Swatch, Text
from deeplabx.report.page.blocks import Colour
from deeplabx.report.page.writing import percent

SIDE = 480  # pixels of a figure
MARK = (255, 0, 200)  # no other colour of these figures is near it
FRAME = (255, 220, 0)
FEW = 0.02  # a smaller share of the pixels is shown enlarged as well
ZOOM = 10  # the enlarged part is this part of the longer side
LEAST_ZOOM = 32  # pixels of it
MOST_VALUES = 8  # in the legend of a mask, beside those at fault
MOST_FAULTS = 12
GOLDEN = 0.618033988749895  # hues that are multiples of it, modulo 1, keep apart


def example_section(example: Example, *, read_label: ReadLabel | None = None) -> Section:
    """What is wrong with a sample, in words and figures. Files are read as far as they can be; for one that
    cannot, there are words instead.
    """
    blocks: list[Block] = []
    figures: list[Figure] = []
    said: list[Block] = []
    if example.image is not None:
        found = image_of(example.image)
        figures += [] if found.pixels is None else [image_figure(found.pixels, example.image)]
        said += [Text(f"image {example.image.name}: {found.words}")] if found.words else []
    legend: list[Block] = []
    if example.label is not None:
        found = label_of(example.label, as_stored=read_label)
        said += [Text(f"mask {example.label.name}: {found.words}")] if found.words else []
        if found.pixels is not None:
            figures += mask_figures(found.pixels, example.label, values=example.values)
            legend = [Legend(swatches(found.pixels, example.values), "Values in the mask")]
    if figures:
        blocks.append(Gallery(figures))
    path = example.label or example.image
    title = example.words or (path.name if path is not None else "a generated sample")
    return Section(title, [*blocks, *legend, *said])


def image_figure(image: np.ndarray, path: Path) -> Figure:
    size = f"{image.shape[1]} x {image.shape[0]}"
    return Figure(fitted(image, side=SIDE), f"image {path.name}, {size}", most=SIDE)


def mask_figures(mask: np.ndarray, path: Path, *, values: Sequence[int]) -> list[Figure]:
    """The mask in colours; values at fault marked, where there are any; enlarged too where they are few."""
    size = f"{mask.shape[1]} x {mask.shape[0]}"
    shown = coloured(fitted(mask, side=SIDE, exact=True))
    figures = [Figure(shown, f"mask {path.name} as stored, {size}", exact=True, most=SIDE)]
    faulty = np.isin(codes(mask), np.array(values, np.int64)) if values else np.zeros(mask.shape[:2], bool)
    count = int(faulty.sum())
    if not count:
        return figures
    words = f"{count:,} of {faulty.size:,} pixels are at fault"
    few = count < FEW * faulty.size
    top, left, side = densest(faulty)
    marked = marked_mask(shown, faulty)
    if few:
        draw_frame(marked, np.array([top, left, top + side, left + side]) * (len(marked) / len(mask)))
    figures.append(Figure(marked, words, exact=True, most=SIDE))
    if few:
        part = (slice(top, top + side), slice(left, left + side))
        near = coloured(fitted(mask[part], side=SIDE, exact=True))
        figures.append(
            Figure(marked_mask(near, faulty[part], dim=0.6), "the framed part", exact=True, most=SIDE)
        )
    return figures


def marked_mask(shown: np.ndarray, faulty: np.ndarray, *, dim: float = 0.35) -> np.ndarray:
    """A mask in colours, dimmed, with the pixels at fault in MARK. None is lost where it is shrunk: a pixel
    of the figure is marked if any that it stands for is.
    """
    size = (shown.shape[1], shown.shape[0])
    shrinks = size[0] < faulty.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    marked = cv2.resize(faulty.astype(np.float32), size, interpolation=way) > 0
    grey = shown.mean(axis=2, keepdims=True) * 0.5 + shown * 0.5
    drawn = (grey * dim).astype(np.uint8)
    drawn[marked] = (0.75 * np.array(MARK) + 0.25 * grey[marked]).astype(np.uint8)
    return drawn


def densest(faulty: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of a square around the densest pixels at fault, inside the mask."""
    side = min(*faulty.shape, max(LEAST_ZOOM, max(faulty.shape) // ZOOM))
    sums = cv2.integral(faulty.astype(np.uint8), sdepth=cv2.CV_64F)
    within = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = divmod(int(within.argmax()), within.shape[1])
    inside = np.argwhere(faulty[top : top + side, left : left + side])
    centre = inside.mean(axis=0).round().astype(int) + np.array([top, left]) - side // 2
    top, left = (min(max(0, int(at)), end - side) for at, end in zip(centre, faulty.shape, strict=True))
    return top, left, side


def draw_frame(image: np.ndarray, place: np.ndarray) -> None:
    """A frame of two pixels just outside of top, left, bottom, right, in place."""
    top, left, bottom, right = (round(float(one)) for one in place)
    cv2.rectangle(image, (left - 2, top - 2), (right + 1, bottom + 1), FRAME, 2)


# --- colours ------------------------------------------------------------------------------------------------


def codes(mask: np.ndarray) -> np.ndarray:
    """Each pixel as one whole number, H x W: its id, or its packed colour."""
    if mask.ndim == 2:
        return mask
    red, green, blue = (mask[..., at].astype(np.int32) for at in range(3))
    return red << 16 | green << 8 | blue


def coloured(mask: np.ndarray) -> np.ndarray:
    """uint8 RGB: colours as they are, ids each in a colour of its own."""
    if mask.ndim == 3:
        return np.ascontiguousarray(mask[..., :3])
    values, indices = np.unique(mask, return_inverse=True)
    table = np.array([id_colour(int(value)) for value in values], np.uint8)
    return table[indices.reshape(mask.shape)]


def id_colour(value: int) -> Colour:
    """The colour of an id: 0 nearly black, 255 and 65535 nearly white, the others bright and apart from their
    neighbours.
    """
    if value == 0:
        return 28, 30, 36
    if value in (255, 65535):
        return 238, 238, 238
    hue = (0.97 + 0.83 * (value * GOLDEN % 1)) % 1  # without the hues of MARK, from 0.8 to 0.97
    lightness = (0.56, 0.38, 0.74, 0.46)[value % 4]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.65)
    return round(255 * red), round(255 * green), round(255 * blue)


def swatches(mask: np.ndarray, faults: Sequence[int]) -> list[Swatch]:
    """The most frequent values of a mask and those at fault, with their shares; and the number of others."""
    values, counts = np.unique(codes(mask), return_counts=True)
    share = {
        int(value): int(count) / mask.shape[0] / mask.shape[1]
        for value, count in zip(values, counts, strict=True)
    }
    ranked = sorted(share, key=lambda value: (-share[value], value))
    at_fault = set(faults)
    wrong, rest = ([one for one in ranked if (one in at_fault) is chosen] for chosen in (True, False))
    by_colour = mask.ndim == 3
    found = [
        Swatch(
            unpacked(value) if by_colour else id_colour(value), value_words(value, share[value], by_colour)
        )
        for value in sorted(rest[:MOST_VALUES])
    ]
    found += [
        Swatch(MARK, f"{value_words(value, share[value], by_colour)}, at fault")
        for value in wrong[:MOST_FAULTS]
    ]
    more = len(rest[MOST_VALUES:]) + len(wrong[MOST_FAULTS:])
    return [*found, Swatch((128, 128, 128), f"{more:,} other values")] if more else found


def value_words(value: int, share: float, by_colour: bool) -> str:
    return f"{unpacked(value) if by_colour else value}: {percent(share)}"
