import numpy as np
import pytest
from matplotlib.path import Path
from rasterio import features

from deeplabx.dataset.polygons import Region, regions_of, run_lengths


def filled(region: Region, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside an odd number of the region's rings, by matplotlib."""
    rows, columns = np.indices(shape)
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    inside = [Path([*ring, ring[0]], closed=True).contains_points(centres) for ring in rings_of(region)]
    return np.sum(inside, axis=0).reshape(shape) % 2 == 1


def rings_of(region: Region) -> list[list[tuple[int, int]]]:
    return [region.outline, *region.holes]


def decoded(counts: list[int], shape: tuple[int, int]) -> np.ndarray:
    """A mask from COCO's RLE, pixel by pixel, column by column."""
    flat = [index % 2 == 1 for index, count in enumerate(counts) for _ in range(count)]
    return np.array(flat).reshape(shape[1], shape[0]).T


def random_ids(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed)
    height, width = drawn.integers(1, 10, 2)
    return drawn.integers(0, drawn.integers(1, 4), (height, width)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(60))
def test_polygons_filled_again_are_exactly_the_ids(seed: int) -> None:
    ids = random_ids(seed)
    back = np.full(ids.shape, 255, np.uint8)
    for region in regions_of(ids):
        own = filled(region, ids.shape)
        assert own.sum() == region.area
        assert (back[own] == 255).all()  # no pixel is in two regions
        back[own] = region.class_id
        np.testing.assert_array_equal(decoded(run_lengths(region, ids.shape), ids.shape), own)
    np.testing.assert_array_equal(back, ids)


@pytest.mark.parametrize("seed", range(60))
def test_rings_are_those_of_gdal(seed: int) -> None:
    ids = random_ids(seed)
    theirs = sorted(
        (int(value), sorted(sorted(set(map(tuple, ring))) for ring in shape["coordinates"]))
        for shape, value in features.shapes(ids, connectivity=4)
    )
    ours = sorted(
        (region.class_id, sorted(sorted(set(ring)) for ring in rings_of(region)))
        for region in regions_of(ids)
    )
    assert ours == theirs


def test_one_pixel() -> None:
    (region,) = regions_of(np.array([[3]], np.uint16))
    assert region == Region(3, 1, [(0, 0), (1, 0), (1, 1), (0, 1)], [])
    assert region.box == (0, 0, 1, 1)
    assert run_lengths(region, (1, 1)) == [0, 1]


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    regions = list(regions_of(np.array([[1, 0], [0, 1]], np.uint8)))
    assert [(region.class_id, region.area) for region in regions] == [(1, 1), (0, 1), (0, 1), (1, 1)]


def test_a_hole_that_touches_the_outline_at_a_corner_is_a_ring_of_its_own() -> None:
    ids = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    region = next(region for region in regions_of(ids) if region.class_id == 1)
    assert [sorted(hole) for hole in region.holes] == [[(1, 1), (1, 2), (2, 1), (2, 2)]]
    assert len(set(region.outline)) == len(region.outline)  # the outline passes no point twice


def test_an_outline_is_positive_and_a_hole_negative_as_geojson_asks() -> None:
    def shoelace(ring: list[tuple[int, int]]) -> float:
        following = [*ring[1:], ring[0]]
        pairs = zip(ring, following, strict=True)
        return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2

    ids = np.ones((5, 7), np.uint8)
    ids[1:3, 2:5] = 0
    region = next(region for region in regions_of(ids) if region.class_id == 1)
    assert shoelace(region.outline) == 35
    assert [shoelace(hole) for hole in region.holes] == [-6]
