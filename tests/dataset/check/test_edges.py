"""Traces of interpolation and compression in masks."""

import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deeplabx.dataset.check.damage import NOISY, SMOOTH
from deeplabx.dataset.check.edges import edges_of, packed, solid

DATA = os.environ.get("DEEPLABX_TEST_DATA")
VOID = 255


def is_between(one: np.ndarray, middle: np.ndarray, other: np.ndarray) -> bool:
    """Of single pixels."""
    return all(min(a, b) <= m <= max(a, b) for a, m, b in zip(one, middle, other, strict=True))


def slow_changes(rows: np.ndarray, void: list[int]) -> tuple[int, int, int]:
    """Along rows, pixel by pixel; rows: H x W x channels."""
    changes = ramps = lines = 0
    for row in rows.astype(int).tolist():
        changes += sum(one != other for one, other in itertools.pairwise(row))
        for one, middle, other in zip(row, row[1:], row[2:], strict=False):
            if middle not in (one, other):
                ramp = is_between(one, middle, other)
                code = sum(part << 8 * place for place, part in enumerate(reversed(middle)))
                ramps += ramp and code not in void
                lines += not ramp
    return changes, ramps, lines


def slow_alone(values: np.ndarray) -> int:
    found = 0
    for y in range(1, values.shape[0] - 1):
        for x in range(1, values.shape[1] - 1):
            middle, left, right, up, down = (
                values[at].tolist() for at in ((y, x), (y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))
            )
            inside = is_between(left, middle, right) or is_between(up, middle, down)
            found += middle not in (left, right, up, down) and not inside
    return found


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_edges_are_counted_as_pixel_by_pixel(seed: int, colours: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (6, 9, 3) if colours else (6, 9)
    values = rng.integers(0, 3, shape).astype(np.uint8)
    void = [1]
    stacked = values.reshape(6, 9, -1)
    found = edges_of(values, void=void)
    assert tuple(found.across) == slow_changes(stacked, void)
    assert tuple(found.down) == slow_changes(stacked.swapaxes(0, 1), void)
    assert found.alone == slow_alone(stacked)


def test_solid_is_the_middle_of_25_equal_pixels() -> None:
    ids = np.zeros((9, 9), np.uint16)
    ids[2:7, 2:7] = 700
    ids[0] = 3
    expected = np.zeros((9, 9), bool)
    expected[4, 4] = True
    assert (solid(ids)[2:-2, 2:-2] == expected[2:-2, 2:-2]).all()
    colours = np.stack([ids % 256] * 3, axis=2).astype(np.uint8)
    assert (solid(colours) == solid(ids)).all()


def test_colours_are_packed_with_red_first() -> None:
    assert packed(np.array([[[1, 2, 3]]], np.uint8)).tolist() == [[0x010203]]


def label_map(seed: int) -> np.ndarray:
    """Patches with a void border, as VOC has them."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((120, 160), np.uint8)
    for _ in range(8):
        y, x = rng.integers(0, 80), rng.integers(0, 110)
        cv2.ellipse(ids, (int(x + 20), int(y + 20)), (22, 14), float(rng.integers(180)), 0, 360, VOID, -1)
        cv2.ellipse(ids, (int(x + 20), int(y + 20)), (20, 12), 0, 0, 360, int(rng.integers(1, 21)), -1)
    return ids


@pytest.mark.parametrize("seed", range(4))
def test_a_resized_mask_has_ramps_and_a_label_map_has_none(seed: int) -> None:
    ids = label_map(seed)
    clean = edges_of(ids, void=[VOID])
    assert clean.across.ramps < SMOOTH * clean.across.changes
    smooth = cv2.resize(ids, (240, 180), interpolation=cv2.INTER_LINEAR)
    found = edges_of(smooth, void=[VOID])
    assert all(way.ramps > SMOOTH * way.changes for way in (found.across, found.down))


@pytest.mark.parametrize("seed", range(4))
def test_a_jpeg_has_noise_and_a_label_map_has_none(seed: int) -> None:
    ids = label_map(seed)
    assert edges_of(ids).alone < NOISY * ids.size / 5
    palette = np.random.default_rng(seed).integers(0, 256, (256, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(palette[ids]).save(file, "JPEG", quality=75)
    found = np.array(Image.open(file))
    edges = edges_of(found)
    assert edges.alone > NOISY * ids.size or edges.across.ramps > SMOOTH * edges.across.changes


def real_masks() -> Iterator[Path]:
    base = Path(DATA or "/")
    yield from sorted((base / "voc/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))[::40]
    yield from sorted((base / "camvid/trainannot").glob("*.png"))[::40]
    yield from sorted((base / "other/coco_stuff_SPADE").glob("*_label/*.png"))[::4]
    yield from sorted((base / "other/ade20k_sceneparsing/annotations").glob("*.png"))


@pytest.mark.skipif(DATA is None, reason="needs DEEPLABX_TEST_DATA")
def test_real_label_maps_are_far_from_both_limits() -> None:
    masks = list(real_masks())
    assert len(masks) > 20
    for path in masks:
        ids = np.array(Image.open(path))
        found = edges_of(ids, void=[VOID])
        for way in (found.across, found.down):
            assert way.ramps < SMOOTH * max(way.changes, 1) / 2, path
        assert found.alone < NOISY * ids.size / 2, path
