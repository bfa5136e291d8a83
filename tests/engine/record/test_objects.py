"""Objects against scipy's connected parts and a loop over pairs."""

import numpy as np
import pytest
from scipy import ndimage

from deeplabx.engine.record.objects import BINS, bounds, objects_by_size

VOID, CLASSES = 255, 3
EIGHT = np.ones((3, 3))


def by_loop(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The same as `objects_by_size`, pair by pair."""
    found = np.zeros((CLASSES, BINS, 2))
    for class_id in range(CLASSES):
        objects, count = ndimage.label(label == class_id, structure=EIGHT)
        parts, _ = ndimage.label((predicted == class_id) & (label != VOID), structure=EIGHT)
        for number in range(1, count + 1):
            own = objects == number
            touching = set(parts[own & (parts > 0)].tolist())
            claimed = np.isin(parts, sorted(touching)) if touching else np.zeros_like(own)
            outside = claimed & (objects == 0)
            iou = (own & claimed).sum() / (own.sum() + outside.sum())
            area, size = int(own.sum()), 0
            while area >= 4 ** (size + 1):
                size += 1
            found[class_id, size] += [1, iou]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("density", [0.08, 0.5])
def test_objects_are_those_of_scipy(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = (rng.random((2, 12, 15)) < density) * rng.integers(1, CLASSES, (2, 12, 15))
    label, predicted = np.kron(coarse, np.ones((1, 3, 4))).astype(np.uint8)
    predicted = np.roll(predicted, 1, axis=1)
    label[rng.random(label.shape) < 0.1] = VOID
    found = objects_by_size(label, predicted, num_classes=CLASSES, ignore_index=VOID)
    assert np.allclose(found, by_loop(label, predicted), atol=1e-12)
    assert found[..., 0].sum() > 3


def test_an_object_is_not_punished_for_its_neighbours() -> None:
    label = np.zeros((5, 12), np.uint8)
    label[1:4, 1:5] = label[1:4, 7:11] = 1
    predicted = np.zeros_like(label)
    predicted[1:4, 1:11] = 1  # one part for two objects: 6 pixels are outside both
    found = objects_by_size(label, predicted, num_classes=2, ignore_index=VOID)
    assert found[1, 1].tolist() == [2, 2 * 12 / (12 + 6)]


def test_an_object_that_is_not_found_has_iou_0_and_void_is_none() -> None:
    label = np.full((4, 4), VOID, np.uint16)
    label[0, 0] = 1
    found = objects_by_size(label, np.zeros_like(label), num_classes=2, ignore_index=VOID)
    assert found[1, 0].tolist() == [1, 0]
    assert found.sum() == 1
    assert not objects_by_size(label * 0 + VOID, label, num_classes=2, ignore_index=VOID).any()


@pytest.mark.parametrize("area", [1, 3, 4, 15, 16, 63, 64, 4**7 - 1, 4**7])
def test_an_area_is_in_the_bin_that_the_report_names(area: int) -> None:
    label = np.ones((area, 1), np.uint8)
    found = objects_by_size(label, label, num_classes=2, ignore_index=VOID)
    (size,) = np.flatnonzero(found[1, :, 0])
    assert 4**size <= area < 4 ** (size + 1)
    assert found[1, size, 1] == 1


def test_bounds_hold_all_pixels_and_no_more() -> None:
    mask = np.zeros((9, 11), bool)
    mask[2, 3] = mask[6, 9] = True
    assert bounds(mask) == (slice(2, 7), slice(3, 10))
