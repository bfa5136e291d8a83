"""Boundary IoU and trimaps against masks that are eroded and dilated pixel by pixel."""

import math

import numpy as np
import pytest

from deeplabx.engine.record.boundaries import (
    RATIO,
    WIDEST,
    boundary_distance,
    boundary_pixels,
    pixels_by_distance,
)

VOID, CLASSES = 255, 4


def blobs(height: int, width: int, *, seed: int, void: bool) -> np.ndarray:
    """A label of rectangles, uint8."""
    rng = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    for value in [1, 2, 3, *([VOID] if void else []), 1, 2]:
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(1, 1 + height // 2), rng.integers(1, 1 + width // 2)
        label[top : top + tall, left : left + wide] = value
    return label


def eroded(mask: np.ndarray, *, outside: bool) -> np.ndarray:
    """Pixels whose eight neighbours are all in the mask; outside: whether those beyond the image are."""
    found = np.zeros_like(mask)
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            around = [
                mask[y + dy, x + dx] if 0 <= y + dy < height and 0 <= x + dx < width else outside
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            found[y, x] = all(around)
    return found


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask without what `width` erosions leave of it, as in the paper's code: what is outside the image
    does not belong to the mask.
    """
    inner = mask
    for _ in range(width):
        inner = eroded(inner, outside=False)
    return mask & ~inner


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("size", [(9, 14), (31, 17), (60, 90)])
def test_boundaries_are_what_erosions_remove(size: tuple[int, int], void: bool) -> None:
    label, predicted = blobs(*size, seed=1, void=void), blobs(*size, seed=2, void=False)
    width = max(1, round(0.02 * math.hypot(*size)))
    assert RATIO == 0.02
    counts = boundary_pixels(label, predicted, num_classes=CLASSES, ignore_index=VOID)
    for class_id in range(CLASSES):
        own = boundary(label == class_id, width) & (label != VOID)
        found = boundary(predicted == class_id, width) & (label != VOID)
        assert counts[class_id].tolist() == [(own & found).sum(), (own | found).sum()], class_id


def test_the_same_label_and_prediction_have_boundary_iou_1() -> None:
    label = blobs(40, 50, seed=3, void=False)
    common, union = boundary_pixels(label, label, num_classes=CLASSES, ignore_index=VOID).T
    assert (common == union).all()
    assert union.sum() > 0


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_distance_is_that_to_the_nearest_pixel_of_another_id(border: bool, dtype: type) -> None:
    ids: np.ndarray = blobs(12, 15, seed=4, void=True).astype(dtype)
    found = boundary_distance(ids, border=border)
    for (y, x), value in np.ndenumerate(ids):
        others = [max(abs(y - v), abs(x - u)) for (v, u), other in np.ndenumerate(ids) if other != value]
        sides = [y + 1, x + 1, 12 - y, 15 - x] if border else []
        assert found[y, x] == min(others + sides)


def test_an_image_of_one_id_has_no_boundary_but_its_border() -> None:
    ids = np.full((5, 7), 3, np.uint8)
    assert (boundary_distance(ids, border=False) >= 1e4).all()
    assert boundary_distance(ids, border=True)[2].tolist() == [1, 2, 3, 3, 3, 2, 1]
    assert not pixels_by_distance(ids, ids, num_classes=4, ignore_index=VOID).any()


def test_a_trimap_is_what_dilations_of_the_boundary_reach() -> None:
    label, predicted = blobs(40, 60, seed=5, void=True), blobs(40, 60, seed=6, void=False)
    counts = pixels_by_distance(label, predicted, num_classes=CLASSES, ignore_index=VOID)
    assert counts.shape == (WIDEST, CLASSES, 3)
    inner = np.ones_like(label, bool)  # pixels that no dilation has reached
    for width in range(1, 12):
        layers = [eroded((label == value) & inner, outside=True) for value in np.unique(label)]
        inner = np.any(layers, axis=0)
        trimap = ~inner & (label != VOID)
        right, labelled, found = counts[:width].sum(axis=0).T
        for class_id in range(CLASSES):
            own, claimed = (label == class_id) & trimap, (predicted == class_id) & trimap
            assert labelled[class_id] == own.sum(), (width, class_id)
            assert found[class_id] == claimed.sum()
            assert right[class_id] == (own & claimed).sum()
