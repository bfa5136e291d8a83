import numpy as np

from deeplabx.report.overlay import colourised, overlay, panel, stacked

PALETTE = [(0, 0, 0), (200, 100, 50)]
IDS = np.array([[0, 1], [1, 255]], np.uint8)


def test_ids_become_their_colours_and_void_is_white() -> None:
    assert colourised(IDS, PALETTE).tolist() == [
        [[0, 0, 0], [200, 100, 50]],
        [[200, 100, 50], [255, 255, 255]],
    ]


def test_an_overlay_is_the_mean_of_image_and_colours() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    assert overlay(image, IDS, PALETTE)[0].tolist() == [[50, 50, 50], [150, 100, 75]]


def test_panels_stand_side_by_side_and_stack() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    one = panel(image, IDS, IDS, PALETTE)
    assert one.shape == (2, 6, 3)
    assert stacked([one, one[:, :4]]).shape == (4, 6, 3)
