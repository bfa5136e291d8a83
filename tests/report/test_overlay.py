import numpy as np
import pytest

from deeplabx.report.overlay import colourised, overlay, panel, stacked

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


def test_panels_stand_side_by_side_and_stack() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    one = panel(image, IDS, IDS, PALETTE)
    assert one.shape == (2, 6, 3)
    assert stacked([one, one[:, :4]]).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("channels", "drawn"), [(1, [10, 10, 10]), (2, [10, 10, 10]), (3, [10, 20, 30]), (4, [10, 20, 30])]
)
def test_an_image_of_any_number_of_channels_is_drawn_in_three(channels: int, drawn: list[int]) -> None:
    image = np.tile(np.array([10, 20, 30, 40][:channels], np.uint8), (2, 2, 1))
    assert panel(image, IDS, IDS, PALETTE)[0, 0].tolist() == drawn
    assert overlay(image, IDS, PALETTE, opacity=0)[0, 0].tolist() == drawn
