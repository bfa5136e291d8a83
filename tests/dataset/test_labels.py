import numpy as np
import pytest

from deeplabx.dataset.labels import to_train_ids
from deeplabx.errors import DataError


def test_every_raw_id_is_mapped() -> None:
    raw = np.array([[0, 7], [11, 7]], np.uint8)
    assert to_train_ids(raw, {0: 0, 7: 1, 11: 255}, path="x.png").tolist() == [[0, 1], [255, 1]]


def test_an_unknown_id_is_named_with_file_value_pixel_and_count() -> None:
    raw = np.zeros((4, 4), np.uint8)
    raw[2, 3] = raw[3, 0] = 12
    with pytest.raises(DataError, match=r"x.png: id 12 at row 2, column 3 .*\(2 such pixels\)"):
        to_train_ids(raw, {0: 0}, path="x.png")
