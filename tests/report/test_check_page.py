"""The page of data check: its words, and the pixels of its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image, ImageFile

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Example, Finding, Level
from deeplabx.dataset.statistics import SplitStatistics, summed
from deeplabx.errors import DataError
from deeplabx.report.check_page import BeforeAfter, verdict, write_check_page
from deeplabx.report.fault_figures import (
    MARK,
    codes,
    coloured,
    densest,
    example_section,
    id_colour,
    marked_mask,
    mask_figures,
    swatches,
)
from deeplabx.report.lenient import DAMAGED, image_of, label_of
from deeplabx.report.page import Figure, Gallery, Section, Text
from tests.report.page.parsed import Parsed

RNG = np.random.default_rng(0)
CLASSES, PALETTE = ["road", "car"], [(128, 64, 128), (0, 0, 142)]


def statistics(*, images: int = 3) -> SplitStatistics:
    facts = [Facts("train", index, pixels=np.array([30, 20, 10]), size=(6, 10)) for index in range(images)]
    return summed(facts, split="train", num_classes=2)


def written(path: Path, findings: Sequence[Finding], **given: object) -> Parsed:
    write_check_page(
        path / "check.html",
        "own",
        [statistics()],
        findings,
        classes=CLASSES,
        palette=PALETTE,
        **given,  # type: ignore[arg-type]
    )
    page = Parsed((path / "check.html").read_text(encoding="utf-8"))
    assert page.problems == []
    return page


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


# --- the page -----------------------------------------------------------------------------------------------


def test_each_finding_is_a_card_with_its_words_and_files(tmp_path: Path) -> None:
    files = tuple(Path(f"/own/{number}.png") for number in range(9))
    findings = [
        Finding("b", Level.NOTE, "worth knowing", "nothing"),
        Finding(
            "a", Level.ERROR, "masks are colours", "write ids", files, repair="writes ids", details={"n": 9}
        ),
        Finding("c", Level.WARNING, "may go wrong", "look"),
    ]
    page = written(tmp_path, findings, repair_command="deeplabx data check fix=true")
    assert [one["class"] for one in page.all("article")] == ["card error", "card warning", "card note"]
    assert list(page.inside["h3"]) == ["masks are colours", "may go wrong", "worth knowing"]
    for words in ("write ids", "fix=true: writes ids", "9 files", "4 more", "deeplabx data check fix=true"):
        assert words in page.text
    assert [one for one in page.inside["code"] if one.startswith("/own/")] == [str(one) for one in files]
    assert "1 error: training on these files would fail or go wrong." in page.text


def test_a_good_data_set(tmp_path: Path) -> None:
    page = written(tmp_path, [], repair_command="deeplabx data check fix=true")
    assert "No faults were found in 3 images with their masks." in page.text
    assert "fix=true" not in page.text
    assert page.all("article") == []


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({Level.ERROR: 2, Level.WARNING: 1}, "2 errors: "),
        ({Level.WARNING: 1, Level.NOTE: 4}, "No errors; look at 1 warning before"),
        ({Level.NOTE: 4}, "No faults were found in 7 images"),
    ],
)
def test_the_verdict(counts: dict[Level, int], words: str) -> None:
    assert verdict(counts, images=7).startswith(words)


def test_names_of_strangers_and_before_and_after(tmp_path: Path) -> None:
    hostile = "<script>'\"\u202egnp.png"
    label = saved(tmp_path / "<b>&amp;.png", np.eye(20, dtype=np.uint8))
    finding = Finding(
        "a", Level.ERROR, hostile, hostile, (Path(hostile),), (Example(label, label, hostile, (1,)),), hostile
    )
    repair = BeforeAfter(hostile, None, np.eye(9, dtype=np.int32), np.zeros((9, 9, 3), np.uint8))
    page = written(tmp_path, [finding], repairs={"a": [repair]})
    assert len(page.all("script")) == 1
    assert "\u202e" not in page.text
    assert page.text.count("<script>'\"\\u202egnp.png") >= 6
    assert [one["alt"] for one in page.all("img")][-2:] == ["before", "after"]


def test_more_examples_are_counted(tmp_path: Path) -> None:
    label = saved(tmp_path / "a.png", np.eye(20, dtype=np.uint8))
    examples = tuple(Example(None, label, f"example {number}") for number in range(7))
    page = written(tmp_path, [Finding("a", Level.ERROR, "words", "fix", examples=examples)])
    assert len(page.all("img")) == 4
    assert "3 further examples of these files not shown here" in page.text


def test_the_same_findings_give_the_same_page(tmp_path: Path) -> None:
    label = saved(tmp_path / "a.png", RNG.integers(0, 9, (50, 60), np.uint8))
    findings = [Finding("a", Level.ERROR, "words", "fix", examples=(Example(label, label, values=(3,)),))]
    written(tmp_path, findings)
    first = (tmp_path / "check.html").read_bytes()
    written(tmp_path, findings)
    assert (tmp_path / "check.html").read_bytes() == first


# --- marks --------------------------------------------------------------------------------------------------


def near_mark(image: np.ndarray) -> np.ndarray:
    """Which pixels are red and blue without green, as MARK is and no id's colour."""
    red, green, blue = (image[..., at].astype(int) for at in range(3))
    return (red - green > 120) & (blue - green > 90)


def test_exactly_the_values_at_fault_are_marked() -> None:
    mask = RNG.integers(0, 30, (40, 60)).astype(np.int32)
    mask[5, 7] = 40_000
    faulty = np.zeros(mask.shape, bool)
    for row in range(40):
        for column in range(60):
            faulty[row, column] = mask[row, column] in (3, 40_000)
    figures = mask_figures(mask, Path("m.png"), values=(3, 40_000))
    assert figures[1].caption.startswith(f"{faulty.sum()} of 2,400 pixels")
    shown = near_mark(figures[1].image)[::8, ::8]  # enlarged by 480 // 60
    np.testing.assert_array_equal(shown, faulty)


def test_a_single_pixel_survives_shrinking_and_is_enlarged() -> None:
    mask = np.zeros((3000, 4000), np.uint8)
    mask[1234, 3210] = 7
    plain, marked, near = mask_figures(mask, Path("m.png"), values=(7,))
    assert not near_mark(plain.image).any()
    rows, columns = np.nonzero(near_mark(marked.image))
    assert abs(rows.mean() / len(marked.image) - 1234 / 3000) < 0.01
    assert abs(columns.mean() / marked.image.shape[1] - 3210 / 4000) < 0.01
    assert near_mark(near.image).any()


def test_a_mask_without_faulty_pixels_has_no_marks() -> None:
    mask = RNG.integers(0, 3, (40, 60)).astype(np.uint8)
    assert len(mask_figures(mask, Path("m.png"), values=())) == 1
    assert len(mask_figures(mask, Path("m.png"), values=(9,))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (33, 33), (7, 400)])
def test_masks_of_any_shape(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[-1, -1] = 1
    for figure in mask_figures(mask, Path("m.png"), values=(1,)):
        assert max(figure.image.shape) <= 480
    top, left, side = densest(mask == 1)
    assert 0 <= top <= shape[0] - side
    assert 0 <= left <= shape[1] - side
    assert (mask[top : top + side, left : left + side] == 1).any()


def test_colours_are_packed_as_findings_have_them() -> None:
    mask = RNG.integers(0, 256, (9, 9, 3), np.uint8)
    red, green, blue = (int(one) for one in mask[2, 3])
    assert codes(mask)[2, 3] == red << 16 | green << 8 | blue
    np.testing.assert_array_equal(coloured(mask), mask)
    figure = mask_figures(mask, Path("m.png"), values=(red << 16 | green << 8 | blue,))[1]
    assert figure.caption.startswith("1 of 81")


def test_ids_are_told_apart_and_none_looks_like_a_mark() -> None:
    colours = np.array([id_colour(value) for value in range(256)])
    assert not near_mark(colours[None]).any()
    assert near_mark(np.array([[MARK]], np.uint8)).all()
    for first in range(24):
        for other in range(first):
            assert np.abs(colours[first] - colours[other]).sum() > 20, (first, other)


def test_the_legend_counts_what_it_leaves_out() -> None:
    mask = np.arange(100, dtype=np.uint8).reshape(10, 10)
    words = [one.words for one in swatches(mask, (50, 51, 200))]
    assert words == [
        *(f"{value}: 1.0 %" for value in range(8)),
        "50: 1.0 %, at fault",
        "51: 1.0 %, at fault",
        "90 other values",
    ]


def test_marks_are_on_a_dimmed_mask() -> None:
    shown = np.full((4, 4, 3), 200, np.uint8)
    faulty = np.eye(4, dtype=bool)
    drawn = marked_mask(shown, faulty)
    assert (drawn[~faulty] == 70).all()
    assert near_mark(drawn)[faulty].all()


# --- files as far as they can be read -----------------------------------------------------------------------


def test_a_truncated_image_shows_what_there_is(tmp_path: Path) -> None:
    image = np.full((200, 300, 3), (10, 200, 30), np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-400])
    found = image_of(path)
    assert found.words == DAMAGED
    assert found.pixels is not None
    assert np.abs(found.pixels[:8].astype(int) - image[:8]).max() < 12
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_size_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)

    def decode(*_: object) -> NoReturn:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    words = "it cannot be read: 20000 x 20000 pixels are too many to be shown"
    assert image_of(path) == (None, words)
    assert label_of(path, as_stored=decode) == (None, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the file is empty"), (b"nonsense", "not a readable image"), (None, "does not exist")],
)
def test_what_is_no_image_is_said(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    assert words in image_of(path).words
    section = example_section(Example(path, path, "here"))
    assert section.title == "here"
    texts = [one.words for one in section.blocks if isinstance(one, Text)]
    assert len(texts) == 2
    assert all(words in one for one in texts)
    assert words in image_of(tmp_path).words or "is a folder" in image_of(tmp_path).words


def test_values_are_read_as_they_are_stored(tmp_path: Path) -> None:
    ids = RNG.integers(0, 200, (20, 30)).astype(np.uint8)
    grey = saved(tmp_path / "grey.png", ids)
    palette = Image.fromarray(ids)
    palette.putpalette(RNG.integers(0, 256, 768).tolist())
    palette.save(tmp_path / "palette.png")
    wide = saved(tmp_path / "wide.png", ids.astype(np.uint16) * 300)
    colours = saved(tmp_path / "colours.png", np.stack([ids, ids, 255 - ids], axis=2))
    opaque = saved(tmp_path / "alpha.png", np.dstack([ids, ids, 255 - ids, ids]))
    for path, truth in (
        (grey, ids),
        (tmp_path / "palette.png", ids),
        (wide, ids.astype(int) * 300),
        (colours, np.stack([ids, ids, 255 - ids], axis=2)),
        (opaque, np.stack([ids, ids, 255 - ids], axis=2)),
    ):
        found = label_of(path)
        assert found.words == ""
        np.testing.assert_array_equal(found.pixels, truth)


def test_the_data_sets_reader_goes_first_and_may_refuse(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", np.zeros((3, 3), np.uint8))
    found = label_of(path, as_stored=lambda _: np.ones((3, 3), np.int32))
    np.testing.assert_array_equal(found.pixels, 1)

    def refuse(path: Path) -> np.ndarray:
        raise DataError("lossy")

    np.testing.assert_array_equal(label_of(path, as_stored=refuse).pixels, 0)


def test_an_image_is_shown_upright(tmp_path: Path) -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = image_of(tmp_path / "a.jpg").pixels
    assert found is not None
    assert found.shape == (40, 20, 3)
    assert found[:8].min() > 200
    assert found[12:].max() < 50


def test_an_example_has_its_image_mask_and_marks(tmp_path: Path) -> None:
    image = saved(tmp_path / "i.png", RNG.integers(0, 256, (40, 60, 3), np.uint8))
    mask = np.zeros((40, 60), np.uint8)
    mask[:20] = 9
    section = example_section(Example(image, saved(tmp_path / "m.png", mask), "", (9,)))
    assert isinstance(section, Section)
    (gallery,) = [one for one in section.blocks if isinstance(one, Gallery)]
    assert [one.caption for one in gallery.figures if isinstance(one, Figure)] == [
        "image i.png, 60 x 40",
        "mask m.png as stored, 60 x 40",
        "1,200 of 2,400 pixels are at fault",
    ]
