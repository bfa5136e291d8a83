import numpy as np
import pytest

from deeplabx.report.label_overlay import DARK, LIGHT, fitted, label_overlay

PALETTE = [(0, 0, 0), (200, 40, 80)]


@pytest.mark.parametrize("ignore_index", [255, 65535])
def test_classes_are_blended_and_void_is_striped(ignore_index: int) -> None:
    image = np.full((60, 90, 3), 100, np.uint8)
    label = np.zeros((60, 90), np.uint8 if ignore_index == 255 else np.uint16)
    label[:, 30:60] = 1
    label[:, 60:] = ignore_index
    shown = label_overlay(image, label, PALETTE, ignore_index=ignore_index, side=90)
    assert (shown[:, :30] == 100).all()  # the black background leaves the image as it is
    assert (shown[:, 30:60] == (150, 70, 90)).all()  # the mean of image and colour
    colours, counts = np.unique(shown[:, 60:].reshape(-1, 3), axis=0, return_counts=True)
    near = [33 + one[0] // 3 * 2 for one in (DARK, LIGHT)]
    assert np.abs(colours[:, 0] - near).max() <= 2
    assert 0.3 < counts[0] / counts.sum() < 0.45  # three of eight pixels are dark


def test_labels_are_enlarged_by_whole_factors_and_never_blended() -> None:
    label = np.random.default_rng(0).integers(0, 9, (7, 11)).astype(np.uint16)
    shown = fitted(label, side=60, exact=True)
    np.testing.assert_array_equal(shown, np.kron(label, np.ones((5, 5), np.uint16)))
    assert set(np.unique(fitted(label, side=6, exact=True))) <= set(np.unique(label))


def test_one_channel_is_shown_in_grey() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    shown = label_overlay(image, np.zeros((4, 4), np.uint8), PALETTE, ignore_index=255, side=4)
    np.testing.assert_array_equal(shown, image.repeat(3, axis=2))
