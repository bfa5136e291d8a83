"""Every transform of albumentations that may be named moves the image and its label alike."""

import functools
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabx.augment.catalogue import ALLOWED
from deeplabx.augment.transforms import Builder, library
from tests.augment.transforms import described

SPATIAL = sorted(name for name in ALLOWED if issubclass(getattr(library(), name), library().DualTransform))
VALUES = sorted(ALLOWED - set(SPATIAL))
HEIGHT, WIDTH = 120, 160
IGNORE = 65535
SLOW = {"PiecewiseAffine"}  # seconds for a small image
# Its lookup is of whole pixels, in the image too.
SHUFFLED = {"RandomGridShuffle"}


@functools.cache
def transform_of(name: str) -> Any:
    return Builder((255, 255, 255), IGNORE).composed([described(name)])


def transformed(name: str, image: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    transform = transform_of(name)
    transform.set_random_seed(seed)
    found = transform(image=image, mask=label)
    return found["image"], found["mask"]


def numbered() -> tuple[np.ndarray, np.ndarray]:
    """The image's channels show the row and the column of each pixel, and its label is their number."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([rows, columns, rows * 0], axis=2).astype(np.uint8)
    return image, (rows * WIDTH + columns).astype(np.uint16)


def distances(name: str, seed: int) -> np.ndarray:
    """N x 2: how many rows and columns the label of a pixel is from what the image shows there, in pixels of
    the source. Where the image is filled, or blended with what it is filled with, is left out.
    """
    image, label = numbered()
    found_image, found_label = transformed(name, image, label, seed)
    assert found_image.dtype == np.uint8
    assert found_label.dtype == np.uint16
    assert found_image.shape == (*found_label.shape, 3)
    shown = found_label != IGNORE
    rows, columns = np.divmod(found_label.astype(int), WIDTH)
    assert rows[shown].max(initial=0) < HEIGHT  # all labels of the image were below
    edge = ~shown | (rows == 0) | (rows == HEIGHT - 1) | (columns == 0) | (columns == WIDTH - 1)
    inside = cv2.erode((~edge).astype(np.uint8), np.ones((5, 5)), borderValue=0) > 0
    if name in SHUFFLED | {"PixelDropout", "MaskDropout"} or "Dropout" in name:
        inside &= (found_image != 0).any(2) & (found_image != 255).any(2)
    return np.stack([found_image[..., 0] - rows, found_image[..., 1] - columns], axis=-1)[inside]


def check(name: str, seed: int) -> None:
    found = distances(name, seed)
    # Half a pixel of the nearest label, half a grey level of rounding: in whole numbers at most 1.
    assert np.abs(found).max(initial=0) <= 1, name
    if len(found) > 500:  # and they cancel, so the label is not shifted
        assert np.abs(found.mean(0)).max() < 0.25, name


@pytest.mark.parametrize("name", [name for name in SPATIAL if name not in SLOW])
def test_a_label_is_within_half_a_pixel_of_its_image(name: str) -> None:
    for seed in range(2):
        check(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPATIAL)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_a_label_is_within_half_a_pixel_of_its_image_whatever_is_drawn(name: str, seed: int) -> None:
    check(name, seed)


def discs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of softened discs, and their label."""
    rng = np.random.default_rng(seed)
    sharp = np.zeros((8 * HEIGHT, 8 * WIDTH), np.uint8)
    for row in (20, 60, 100):
        for column in (20, 60, 100, 140):
            middle = (8 * (np.array([column, row]) + rng.uniform(-6, 6, 2))).astype(int).tolist()
            cv2.circle(sharp, middle, int(8 * rng.uniform(7, 11)), 1, -1)
    covered = sharp.reshape(HEIGHT, 8, WIDTH, 8).mean((1, 3))
    soft = cv2.GaussianBlur(covered, (0, 0), 0.7)
    image = np.array([60, 80, 70]) + soft[..., None] * np.array([120, 90, 60])
    return image.round().astype(np.uint8), (covered >= 0.5).astype(np.uint8)


def moved(name: str, seeds: range) -> np.ndarray:
    """By how many rows and columns a transform that keeps the label moves each disc: of each quarter of the
    image the median, 4 x 2, because weather and noise hide or disturb some of them.
    """
    found: list[list[np.ndarray]] = [[], [], [], []]
    for seed in seeds:
        image, label = discs(seed)
        changed, kept = transformed(name, image, label, seed)
        assert np.array_equal(kept, label)
        count, parts, boxes, middles = cv2.connectedComponentsWithStats(label)
        for disc in range(1, count):
            left, top, width, height, _ = boxes[disc]
            window = np.s_[max(0, top - 5) : top + height + 5, max(0, left - 5) : left + width + 5]
            values = cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY)[window].astype(float)
            core = cv2.erode((parts[window] == disc).astype(np.uint8), np.ones((5, 5))) > 0
            around = cv2.dilate((label[window] > 0).astype(np.uint8), np.ones((5, 5))) == 0
            ground, top_value = np.median(values[around]), np.median(values[core])
            if abs(top_value - ground) < 8:
                continue
            weight = ((values - ground) / (top_value - ground)).clip(0, 1)
            weight[weight < 0.25] = 0
            middle = np.array([(weight * grid).sum() / weight.sum() for grid in np.indices(weight.shape)])
            middle += (window[0].start, window[1].start)
            quarter = 2 * (middles[disc][1] > HEIGHT / 2) + (middles[disc][0] > WIDTH / 2)
            found[int(quarter)].append(middle - middles[disc][::-1])
    return np.array([np.median(one, axis=0) for one in found if len(one) > 5])


@pytest.mark.parametrize("name", [name for name in VALUES if name not in SLOW])
def test_a_change_of_values_moves_nothing(name: str) -> None:
    assert np.abs(moved(name, range(12))).max(initial=0) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES)
def test_a_change_of_values_moves_nothing_on_average(name: str) -> None:
    assert np.abs(moved(name, range(40))).max(initial=0) < 0.4


@pytest.mark.parametrize("name", ["Emboss", "GlassBlur", "ZoomBlur", "Downscale"])
def test_what_is_refused_because_it_moves_the_image_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeplabx.augment.transforms.REFUSED", {})
    monkeypatch.setattr("deeplabx.augment.transforms.ALLOWED", frozenset([name]))
    assert np.abs(moved(name, range(4))).max() > 0.5


@pytest.mark.parametrize("name", SPATIAL)
def test_no_label_appears_but_ignore(name: str) -> None:
    if name in SLOW:
        pytest.skip("slow; the exhaustive test above has it")
    rng = np.random.default_rng(5)
    label = cv2.resize(rng.integers(1, 4, (6, 8), np.uint8) * 20, (WIDTH, HEIGHT), interpolation=0)
    image = np.repeat(label[..., None], 3, 2)
    builder = Builder((1, 2, 3), 255)
    transform = builder.composed([described(name)])
    for seed in range(4):
        transform.set_random_seed(seed)
        assert set(np.unique(transform(image=image, mask=label)["mask"])) <= {20, 40, 60, 255}
