"""Values that well-known programs put into masks."""

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset import cityscapes
from deeplabx.dataset.check.known_values import (
    PALETTE,
    luminance,
    palette_indices_of_greys,
    published_order,
    step_of,
)


def test_the_grey_of_a_colour_is_pillows() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (1, 500, 3)).astype(np.uint8)
    greys = np.array(Image.fromarray(colours).convert("L"))[0]
    assert [luminance(tuple(colour)) for colour in colours[0].tolist()] == greys.tolist()


def test_a_grey_of_two_palette_indices_is_left_out() -> None:
    found = palette_indices_of_greys(21)
    greys = [luminance(colour) for colour in PALETTE[:21]]
    assert all(greys.count(grey) == 1 and greys[index] == grey for grey, index in found.items() if index < 21)
    assert {grey for grey in greys if greys.count(grey) > 1}.isdisjoint(found)


@pytest.mark.parametrize(
    ("ids", "classes", "expected"),
    [
        ([0, 85, 170, 255], 4, [0, 1, 2, 3]),
        ([0, 127, 255], 3, [0, 1, 2]),
        ([0, 128, 255], 3, [0, 1, 2]),  # 127.5, rounded to the even number
        ([0, 50, 100], 6, [0, 1, 2]),
        ([0, 257, 514], 3, [0, 1, 2]),
        ([0, 1, 2], 3, []),
        ([0, 7, 8, 11], 19, []),
        ([0, 2, 40], 3, []),  # more classes than there are
    ],
)
def test_a_step_between_ids_is_found(ids: list[int], classes: int, expected: list[int]) -> None:
    assert list(step_of(ids, classes=classes).values()) == expected


def test_a_known_data_set_is_recognised_by_its_names_in_any_order() -> None:
    names = [label.name for label in cityscapes.CLASS_TABLE]
    assert published_order(reversed(names)) == ("cityscapes", names)
    assert published_order(names[:-1]) is None
