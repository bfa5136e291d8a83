"""Polygons are filled as pycocotools fills them, pixel by pixel."""

from collections.abc import Callable

import numpy as np
import pytest

from deeplabx.dataset.fill import filled, on_grid, outline_length

masks = pytest.importorskip("pycocotools.mask")
# Of its own arrays, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def ours(numbers: np.ndarray, *, height: int, width: int) -> np.ndarray:
    down = np.zeros((width, height), bool)
    found = filled(on_grid(numbers.astype(np.float64)), height=height, width=width)
    if found is not None:
        down[found.first : found.first + len(found.inside)] = found.inside
    return down.T


def theirs(numbers: np.ndarray, *, height: int, width: int) -> np.ndarray:
    return masks.decode(masks.merge(masks.frPyObjects([numbers.tolist()], height, width))).astype(bool)


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "inside": lambda rng, size: rng.uniform(0, 40, size),
    "partly outside": lambda rng, size: rng.uniform(-60, 100, size),
    "whole numbers": lambda rng, size: rng.integers(-5, 45, size),
    "tenths": lambda rng, size: rng.integers(-50, 450, size) / 10,
    "repeated corners": lambda rng, size: rng.integers(0, 40, (size // 2, 2)).repeat(2, axis=0).ravel(),
    "on one line": lambda rng, size: np.repeat(rng.uniform(0, 40, size // 2), 2),
    "far away": lambda rng, size: rng.uniform(-1, 1, size) * 10.0 ** rng.integers(0, 5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_polygons_are_filled_as_pycocotools_does(kind: str) -> None:
    rng = np.random.default_rng(list(KINDS).index(kind))
    covered = 0
    for _ in range(250):  # most cross themselves
        height, width = rng.integers(1, 40, 2).tolist()
        numbers = KINDS[kind](rng, 2 * int(rng.integers(3, 12)))
        expected = theirs(numbers, height=height, width=width)
        np.testing.assert_array_equal(ours(numbers, height=height, width=width), expected, str(numbers))
        covered += int(expected.sum())
    assert covered > 100 or kind == "on one line"


def test_a_large_polygon() -> None:
    angles = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 900 + (1000, 700)
    numbers = corners.ravel()
    expected = theirs(numbers, height=1500, width=2000)
    np.testing.assert_array_equal(ours(numbers, height=1500, width=2000), expected)
    assert expected.mean() > 0.5


def test_the_length_of_an_outline_is_the_longer_side_of_each_step() -> None:
    assert outline_length(on_grid(np.array([0.0, 0, 10, 0, 10, 4]))) == 5 * (10 + 4 + 10)
