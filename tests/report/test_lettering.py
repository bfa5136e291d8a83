from PIL import Image, ImageDraw

from deeplabx.report import lettering
from deeplabx.report.lettering import cut_end, font_for, font_of, has_letter, legible


def test_letters_that_the_font_has_are_known() -> None:
    path = lettering.dejavu_path()
    assert all(has_letter(path, letter) for letter in "aZ09 ßéЖλ…")
    assert not has_letter(path, "路")


def test_a_name_is_written_as_it_is_and_one_without_letters_by_its_index(monkeypatch: object) -> None:
    assert legible("Füßgänger", 3, 14, width=300)[0] == "Füßgänger"
    if font_for("路", 14) is None:  # as on a machine without a font for it
        assert legible("道路", 12, 14, width=300)[0] == "class 12"
    assert legible("a\nb\u202e", 1, 14, width=300)[0] == "a\\nb\\u202e"


def test_a_long_name_keeps_its_beginning_and_its_width() -> None:
    font = font_of(15)
    short = cut_end("a name that is very long indeed", font, 100)
    assert short.startswith("a name")
    assert short.endswith("…")
    assert font.getlength(short) <= 100
    assert cut_end("short", font, 100) == "short"


def test_the_font_draws() -> None:
    image = Image.new("L", (60, 30))
    ImageDraw.Draw(image).text((2, 2), "Wg", 255, font_of(18))
    assert image.getbbox() is not None
