import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabx.dataset.labels import LabelMap, voc_palette
from deeplabx.errors import DataError


def test_every_raw_id_is_mapped() -> None:
    raw = np.array([[0, 7], [11, 7]], np.uint8)
    assert LabelMap({0: 0, 7: 1, 11: 255})(raw, path="x.png").tolist() == [[0, 1], [255, 1]]


def test_an_unknown_id_is_named_with_file_value_pixel_and_count() -> None:
    raw = np.zeros((4, 4), np.uint8)
    raw[2, 3] = raw[3, 0] = 12
    with pytest.raises(
        DataError, match=r"x.png: id 12 at row 2, column 3 .*\(2 such pixels: 12\)\nknown ids: 0"
    ):
        LabelMap({0: 0})(raw, path="x.png")


def test_wide_ids_are_mapped_and_checked() -> None:
    label_map = LabelMap({0: 0, 1000: 1})
    assert label_map(np.array([[0, 1000]], np.int32), path="x").tolist() == [[0, 1]]
    for wrong in (-1, 1001, 70000, 2**31 - 1):
        with pytest.raises(DataError, match=f"id {wrong} at row 0, column 1"):
            label_map(np.array([[0, wrong]], np.int32), path="x")


def test_colours_are_mapped_and_an_unknown_one_is_named() -> None:
    label_map = LabelMap({(0, 0, 0): 0, (128, 64, 1): 1})
    raw = np.array([[[0, 0, 0], [128, 64, 1]]], np.uint8)
    assert label_map(raw, path="x").tolist() == [[0, 1]]
    raw[0, 0] = (255, 255, 255)
    with pytest.raises(
        DataError,
        match=r"colour \(255, 255, 255\) at row 0, column 0 .*\nknown colours: \(0, 0, 0\), \(128, 64, 1\)",
    ):
        label_map(raw, path="x")


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.integers(0, 300), st.integers(0, 20), min_size=1), st.integers(0, 2**32 - 1))
def test_a_map_is_a_look_up_pixel_by_pixel(train_ids: dict[int, int], seed: int) -> None:
    raw = np.random.default_rng(seed).choice(list(train_ids), (5, 6)).astype(np.int32)
    expected = [[train_ids[int(value)] for value in row] for row in raw]
    assert LabelMap(train_ids)(raw, path="x").tolist() == expected
    if max(train_ids) < 256:
        assert LabelMap(train_ids)(raw.astype(np.uint8), path="x").tolist() == expected


def test_vocs_palette_is_the_development_kits() -> None:
    # from the kit's documentation: aeroplane, bicycle, tvmonitor, and void at 255
    palette = voc_palette(256)
    assert [palette[index] for index in (0, 1, 2, 20, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (0, 64, 128),
        (224, 224, 192),
    ]
