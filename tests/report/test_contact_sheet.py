from pathlib import Path

import numpy as np
from PIL import Image

from deeplabx.report.contact_sheet import (
    GAP,
    SIDE,
    Tile,
    contact_sheet,
    write_contact_sheet,
)
from deeplabx.report.lettering import cut, font_of, wrapped
from deeplabx.report.page import Swatch

LEGEND = [Swatch((10, 200, 30), f"class {number}") for number in range(30)]


def solid(number: int, *, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), (number, 0, 255 - number), np.uint8)


def boxes(sheet: np.ndarray, number: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the pixels of a solid panel."""
    rows, columns = np.nonzero((sheet == (number, 0, 255 - number)).all(axis=2))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_every_panel_is_whole_and_apart_from_the_others() -> None:
    tiles = [Tile(f"name {at}", solid(20 * at + 1), solid(20 * at + 11), ["scale 1.25"]) for at in range(5)]
    sheet = np.asarray(contact_sheet("title", tiles, LEGEND))
    for at in range(5):
        top, bottom, left, right = boxes(sheet, 20 * at + 1)
        assert (bottom - top, right - left) == (SIDE, SIDE)
        beside = boxes(sheet, 20 * at + 11)
        assert beside == (top, bottom, right + GAP, right + GAP + SIDE)
        assert (sheet[top - 20 : top, left:right] < 128).any()  # its title
        assert (sheet[bottom + 4 : bottom + 28, left:right] < 128).any()  # its notes
    entries = np.nonzero((sheet == (10, 200, 30)).all(axis=2))
    assert entries[0].max() < len(sheet)
    assert len(entries[0]) >= 30 * 17 * 17  # every entry of the legend


def test_a_smaller_panel_is_centred() -> None:
    sheet = np.asarray(contact_sheet("title", [Tile("one", solid(1, height=100, width=200), solid(2))], []))
    top, bottom, _, right = boxes(sheet, 1)
    other_top, other_bottom, other_left, _ = boxes(sheet, 2)
    assert top - other_top == other_bottom - bottom == (SIDE - 100) // 2
    assert other_left - GAP - right == (SIDE - 200) // 2


def test_text_stays_within_its_width() -> None:
    font = font_of(17)
    long = "a_very_long_name_" * 20 + "007.png"
    assert font.getlength(cut(long, font, 300)) <= 300
    assert cut(long, font, 300).endswith("007.png")
    assert cut("\u202eshort\n", font, 300) == "\\u202eshort\\n"
    lines = wrapped("scale 1.25, flip, " * 9, font, 200, most=99)
    assert all(font.getlength(line) <= 200 for line in lines)
    assert " ".join(lines) == ("scale 1.25, flip, " * 9).strip()


def test_it_is_written_as_a_png(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "sheet", "title", [Tile("one", solid(1), solid(2))], LEGEND)
    with Image.open(tmp_path / "sheet") as image:
        assert image.format == "PNG"
    assert [one.name for one in tmp_path.iterdir()] == ["sheet"]


def test_notes_that_do_not_fit_end_with_an_ellipsis() -> None:
    font = font_of(16)
    words = [f"word{number}" for number in range(40)]
    lines = wrapped(" ".join(words), font, 300, most=2)
    assert len(lines) == 2
    assert lines[1].endswith(" …")
    assert " ".join(lines).split()[:-1] == words[: len(" ".join(lines).split()) - 1]
    assert max(font.getlength(line) for line in lines) <= 300
    assert wrapped("word0 word1", font, 300, most=2) == ["word0 word1"]
