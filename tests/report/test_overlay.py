import tracemalloc

import numpy as np
import pytest

from deeplabx.report import overlay as overlays
from deeplabx.report.overlay import as_rgb, colourised, overlay

PALETTE = [(0, 0, 0), (200, 100, 50)]
IDS = np.array([[0, 1], [1, 255]], np.uint8)


def test_ids_become_their_colours_and_void_is_white() -> None:
    assert colourised(IDS, PALETTE).tolist() == [
        [[0, 0, 0], [200, 100, 50]],
        [[200, 100, 50], [255, 255, 255]],
    ]


def test_an_overlay_is_the_mean_of_image_and_colours_and_black_leaves_the_image() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    assert overlay(image, IDS, PALETTE)[0].tolist() == [[100, 100, 100], [150, 100, 75]]


@pytest.mark.parametrize(
    ("channels", "drawn"), [(1, [10, 10, 10]), (2, [10, 10, 10]), (3, [10, 20, 30]), (4, [10, 20, 30])]
)
def test_an_image_of_any_number_of_channels_is_drawn_in_three(channels: int, drawn: list[int]) -> None:
    image = np.tile(np.array([10, 20, 30, 40][:channels], np.uint8), (2, 2, 1))
    assert as_rgb(image)[0, 0].tolist() == drawn
    assert overlay(image, IDS, PALETTE, opacity=0)[0, 0].tolist() == drawn


def overlaid_in_floats(
    image: np.ndarray, ids: np.ndarray, palette: list[tuple[int, int, int]], opacity: float
) -> np.ndarray:
    """The formula, of the whole image at once: about 50 bytes a pixel."""
    table = np.full((65_536, 3), 255, np.uint8)
    table[: len(palette)] = palette
    colours = table[ids]
    blended = image[..., :3] * (1 - opacity) + colours * opacity
    return np.where(colours.any(axis=2, keepdims=True), np.rint(blended), image[..., :3]).astype(np.uint8)


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("block", [1, 64, 1 << 16])
def test_an_overlay_in_blocks_of_rows_is_that_of_the_whole(
    opacity: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlays, "BLOCK", block)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (61, 47, 3), dtype=np.uint8)
    palette = [(0, 0, 0), *[tuple(colour) for colour in random.integers(0, 256, (20, 3)).tolist()]]
    ids = random.integers(0, 23, (61, 47)).astype(np.uint8)  # two have no colour
    found = overlay(image, ids, palette, opacity=opacity)
    assert np.array_equal(found, overlaid_in_floats(image, ids, palette, opacity))
    assert np.array_equal(found[ids == 0], image[ids == 0])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64])
def test_a_thousand_classes_have_their_colours_and_all_else_is_white(kind: type) -> None:
    palette = [(index % 256, index // 256, 7) for index in range(1000)]
    ids: np.ndarray = np.array([[0, 1, 255]], kind)
    assert colourised(ids, palette).tolist() == [[[0, 0, 7], [1, 0, 7], [255, 0, 7]]]
    if kind is not np.uint8:
        wide: np.ndarray = np.array([[256, 999, 1000, 65_535 if kind is np.uint16 else -1]], kind)
        assert colourised(wide, palette)[0].tolist() == [[0, 1, 7], [231, 3, 7], [255] * 3, [255] * 3]
        assert colourised(wide, palette[:2]).min() == 255


def test_an_overlay_takes_a_few_bytes_a_pixel() -> None:
    image, ids = np.full((2000, 1500, 3), 90, np.uint8), np.ones((2000, 1500), np.uint8)
    tracemalloc.start()
    overlay(image, ids, PALETTE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / ids.size < 6  # 3 of them are the result
