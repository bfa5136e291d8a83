import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from deeplabx.report.confusion import EMPTY, confusion_figure, normalized, shaded


def test_rows_are_shares_as_another_library_has_them() -> None:
    random = np.random.default_rng(0)
    label, predicted = random.integers(0, 6, 500), random.integers(0, 7, 500)  # 6 is never labelled
    counts = confusion_matrix(label, predicted, labels=range(7))
    shares, counted = normalized(counts)
    expected = confusion_matrix(label, predicted, labels=range(7), normalize="true")
    assert np.allclose(shares, expected)
    assert counted.tolist() == [True] * 6 + [False]


def test_a_larger_share_is_darker_and_a_class_without_pixels_is_grey() -> None:
    shares, counted = normalized(np.array([[90, 9, 1], [0, 0, 0], [0, 0, 4]]))
    colours = shaded(shares, counted)
    assert colours[0, :, 0].tolist() == sorted(colours[0, :, 0].tolist())
    assert colours[0, 2, 0] < 250  # of 1 %
    assert colours[1].tolist() == [list(EMPTY)] * 3
    assert colours[2, 0].tolist() == [255] * 3


@pytest.mark.parametrize("number", [1, 2, 19, 24, 25, 150, 1000])
def test_any_number_of_classes_gives_an_image_of_a_sane_size(number: int) -> None:
    counts = np.random.default_rng(number).integers(0, 1000, (number, number))
    figure = confusion_figure(counts, [f"class {index} " * 9 for index in range(number)])
    assert figure.dtype == np.uint8
    assert max(figure.shape) < (1300 if number < 200 else 5200)


def test_the_matrix_is_in_the_figure_cell_by_cell() -> None:
    counts = np.random.default_rng(1).integers(0, 1000, (100, 100))
    figure = confusion_figure(counts, [str(index) for index in range(100)])
    cells = figure[-14 - 1000 : -14 : 10, -14 - 1000 : -14 : 10]
    assert np.array_equal(cells, shaded(*normalized(counts)))
