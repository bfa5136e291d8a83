import time

import numpy as np
import pytest

from deeplabx.report.sample_sheet import (
    GAP,
    LINE,
    MARGIN,
    SIDE,
    VOID,
    Row,
    cells,
    sample_sheet,
)
from deeplabx.report.sheet import HATCH

CLASSES = ["sky", "road", "car"]
PALETTE = [(70, 130, 180), (128, 64, 128), (0, 0, 142)]


def row(height: int, width: int, *, predicted: bool = True, name: str = "a", classes: int = 3) -> Row:
    random = np.random.default_rng(height * width)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = random.integers(0, classes, (height, width)).astype(np.uint8)
    label[: height // 4] = 255
    ids = np.roll(label, 1, axis=1).astype(np.int64) % classes if predicted else None
    return Row.of(name, image, label, ids, 0.5 if predicted else None)


def colours_in(image: np.ndarray) -> set[tuple[int, ...]]:
    codes = np.unique(image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32))
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()}


def sheet(*rows: Row) -> np.ndarray:
    return sample_sheet(rows, classes=CLASSES, palette=PALETTE, ignore_index=255)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((20, 10), (280, 140)),  # enlarged by a whole factor
        ((SIDE, 7), (SIDE, 7)),
        ((1024, 2048), (SIDE // 2, SIDE)),
        ((3000, 2), (SIDE, 1)),
    ],
)
def test_an_image_keeps_its_proportions_and_its_longest_side_fits(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    found = row(*size)
    assert found.image.shape[:2] == found.label.shape == shown
    assert set(np.unique(found.label)) <= {0, 1, 2, 255}  # no class between two


def test_every_cell_has_the_size_of_the_largest_image() -> None:
    drawn = sheet(row(1024, 2048), row(300, 100), row(65, 97))
    assert drawn.shape[1] == 2 * MARGIN + 5 * SIDE + 4 * GAP
    narrow = row(300, 100)
    top = MARGIN + LINE + (LINE + SIDE + GAP) + LINE
    left = MARGIN + (SIDE - narrow.image.shape[1]) // 2
    shown = drawn[top : top + SIDE, left : left + narrow.image.shape[1]]
    assert np.array_equal(shown, narrow.image)


def test_before_the_first_step_there_are_two_columns() -> None:
    assert sheet(row(65, 97, predicted=False)).shape[1] == 2 * MARGIN + 2 * (97 * 3) + GAP


def test_what_the_columns_show_pixel_by_pixel() -> None:
    image = np.full((SIDE, SIDE, 3), 100, np.uint8)
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[:, 100:], label[:, 200:] = 1, 255
    predicted = np.ones((SIDE, SIDE), np.int64)
    found = cells(Row.of("a", image, label, predicted), PALETTE, 255)
    assert np.array_equal(found[0], image)
    assert found[1][5, 5].tolist() == list(PALETTE[0])
    assert colours_in(found[1][:, 200:]) == {HATCH, (255, 255, 255)}
    assert colours_in(found[2]) == {PALETTE[1]}
    assert found[3][0, 0].tolist() == [114, 82, 114]  # half of each
    wrong, right, void = (found[4][0, column].tolist() for column in (50, 150, 250))
    assert wrong == list(PALETTE[1])  # as predicted
    assert min(right) > 150
    assert len(set(right)) == 1  # pale grey
    assert void == list(VOID)


def test_the_legend_has_the_classes_that_appear() -> None:
    def colours(*rows: Row) -> set[tuple[int, ...]]:
        drawn = sheet(*rows)
        height = rows[0].image.shape[0]
        below = drawn[MARGIN + LINE + LINE + height + GAP :]
        return colours_in(below) & {*PALETTE, HATCH}

    two = row(65, 97, classes=2)
    assert colours(two) == {PALETTE[0], PALETTE[1], HATCH}
    assert colours(row(65, 97)) == {*PALETTE, HATCH}


def test_many_classes_and_any_names_have_room() -> None:
    names = [f"{'a long name ' * 9}{index}" for index in range(148)] + ["道路", "a\nb$"]
    palette = [(index, 255 - index, 7) for index in range(150)]
    label = np.arange(150 * 4).reshape(20, 30).astype(np.uint8) % 150
    found = Row.of("x" * 400, np.zeros((20, 30, 3), np.uint8), label, label.astype(np.int64), 1.0)
    drawn = sample_sheet([found], classes=names, palette=palette, ignore_index=255)
    assert set(palette) <= colours_in(drawn[MARGIN + LINE + LINE + found.image.shape[0] :])
    assert drawn.shape[1] < 2000


def test_four_samples_of_513_pixels_are_drawn_fast() -> None:
    rows = [row(513, 513, name=str(index)) for index in range(4)]
    sheet(rows[0])  # opens the font
    took = []
    for _ in range(3):
        begin = time.thread_time()
        sheet(*rows)
        took.append(time.thread_time() - begin)
    assert min(took) < 0.15
