"""The page kit, through an HTML parser."""

import base64
import hashlib
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.errors import DataError
from deeplabx.report.page import (
    Bars,
    Beside,
    Block,
    Card,
    Cell,
    Code,
    Command,
    Details,
    Figure,
    Fixed,
    Gallery,
    Heatmap,
    Histogram,
    Legend,
    Lines,
    Names,
    Section,
    Share,
    Swatch,
    Table,
    Text,
    Tiles,
    page_text,
    write_page,
)
from deeplabx.report.page.charts import bars, heatmap, histogram, lines, number_words, ticks
from deeplabx.report.page.images import data_uri, shrunk
from deeplabx.report.page.writing import as_table, cell_of, percent
from tests.report.page.parsed import Parsed

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title></style><b>",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &#60;",
    "javascript:alert(1)",
]
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (30, 40, 3), np.uint8)


def every_block(words: str) -> list[Block]:
    """A block of each kind, with these words wherever words can be."""
    cells: list[Cell] = [
        words,
        Swatch((1, 2, 3), words),
        Code(words),
        Path(f"/a/{words}"),
        Share(0.5),
        3,
        0.25,
        None,
        True,
    ]
    return [
        Section(
            words,
            [
                Text(words),
                Tiles([(words, words)], {words: "error"}),
                Table([words] * len(cells), [cells, cells], caption=words),
                Bars(words, [words], [1.0], [(1, 2, 3)], [words], words),
                Histogram(words, [0.0, 1.0, 2.0], [1, 2], words, words),
                Lines(words, {words: ([0, 1], [0.0, 1.0]), f"{words}2": ([0], [1.0])}, words, words),
                Lines(
                    words, {words: ([0, 1], [0.0, 1.0]), f"{words}2": ([0], [1.0])}, behind=[words], dots=True
                ),
                Heatmap(words, [words, f"{words}2"], [words], [[0.5], [float("nan")]], words, words),
                Table([words], [[Fixed(0.5)], [Fixed(float("nan"))]]),
                Figure(PHOTO, words, words),
                Gallery([Figure(PHOTO[..., 0], words, exact=True)], words),
                Beside([Text(words)]),
                Legend([Swatch((1, 2, 3), words), Swatch((1, 2, 3), words, hatched=True)], words),
                Names([words] * 3, first=1),
                Command(words, words),
                Details(words, [Text(words)]),
                Card("error", words, [Section(words, [Text(words)])]),
            ],
        ),
        Section("second", []),
    ]


def test_a_page_is_well_formed() -> None:
    page = page_text("title", every_block("words"), words="words")
    found = Parsed(page)
    assert found.problems == []
    assert page.startswith("<!doctype html>")
    assert len(found.all("h1")) == 1
    assert {tag for tag, _ in found.tags} >= {
        "nav",
        "main",
        "table",
        "caption",
        "svg",
        "figure",
        "details",
        "pre",
    }
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {one["href"][1:] for one in found.all("a")} <= set(ids)  # the table of contents leads somewhere


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_strangers_text_stays_text(hostile: str) -> None:
    harmless = Parsed(page_text("title", every_block("words"), words="words"))
    found = Parsed(page_text(hostile, every_block(hostile), words=hostile))
    assert found.problems == []
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in harmless.tags]
    assert [list(one) for _, one in found.tags] == [
        list(one) for _, one in harmless.tags
    ]  # names of attributes
    assert found.text.count(hostile) >= 25
    assert found.inside["title"][0] == hostile


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\u200f", "\x00", "\x1b", "\x07", "\udc80", "\ufeff"]
)
def test_what_cannot_be_seen_is_shown_as_an_escape(character: str) -> None:
    page = page_text("title", every_block(f"a{character}b"), words=f"a{character}b")
    assert character not in page
    page.encode("utf-8")
    assert f"a{character!r}b".replace("'", "") in Parsed(page).text


def test_joiners_of_persian_and_indic_words_stay() -> None:
    assert "می\u200cخواهم" in page_text("title", [Text("می\u200cخواهم")])


def test_a_page_asks_for_nothing() -> None:
    page = page_text("title", every_block("words"))
    found = Parsed(page)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (
            tag,
            attributes,
        )
    code = "".join(found.inside["style"] + found.inside["script"])
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch|XMLHttp|eval\(|innerHTML", code)
    assert "http" not in re.sub(r"data:[^\"]*", "", page.replace("http-equiv", ""))


def test_the_policy_allows_what_is_there_and_nothing_else() -> None:
    page = page_text("title", every_block("words"))
    policy = next(one["content"] for one in Parsed(page).all("meta") if "http-equiv" in one)
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    assert "unsafe" not in policy


def test_numbers_are_right_aligned_and_sorted_by_value() -> None:
    rows: list[list[Cell]] = [["a", 1234567, None, Share(0.25)], ["b", 8, 0.5, Share(0.0)]]
    found = Parsed(page_text("title", [Table(["name", "count", "value", "share"], rows)]))
    headings = [one.get("class", "") for one in found.all("th") if one["scope"] == "col"]
    assert headings == ["", "number", "number", "number"]
    keys = [attributes["data-key"] for _, attributes in found.tags if "data-key" in attributes]
    assert keys == ["a", "1234567", "", "0.25", "b", "8", "0.5", "0.0"]
    assert "1,234,567" in found.text
    assert "25.0 %" in found.text


def test_more_names_are_folded_and_none_is_left_out() -> None:
    names = [f"file {number}.png" for number in range(12)]
    found = Parsed(page_text("title", [Names(names, first=5)]))
    assert list(found.inside["code"]) == names
    assert found.inside["summary"] == ["7 more"]


def test_a_page_is_written_whole_and_never_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_page(path, "one", [])
    write_page(path, "two", [])
    assert Parsed(path.read_text(encoding="utf-8")).inside["title"] == ["two"]
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]
    (tmp_path / "link.html").symlink_to(path)
    with pytest.raises(DataError, match="link"):
        write_page(tmp_path / "link.html", "three", [])


def test_the_same_blocks_give_the_same_page() -> None:
    assert page_text("title", every_block("words")) == page_text("title", every_block("words"))


def test_a_card_has_one_of_the_levels() -> None:
    with pytest.raises(ValueError, match="fatal"):
        Card("fatal", "title")


# --- charts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [(1 / 300, np.nextafter(1 / 300, 1)), (1e20, 1e20), (-1e300, 1e300), (0, 1e-320), (7e5, 7e5)],
)
def test_numbers_that_hardly_differ_and_huge_ones_have_ticks(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert 2 <= len(set(marks)) <= 6
    assert marks[0] <= low <= high <= marks[-1]


def test_ticks_are_few_round_and_enclose() -> None:
    for _ in range(2000):
        low, high = sorted(RNG.normal(size=2) * 10.0 ** RNG.integers(-6, 9))
        marks = ticks(low, high)
        steps = np.diff(marks)
        assert 2 <= len(marks) <= 6
        assert marks[0] <= low + 1e-8 * abs(low)
        assert marks[-1] >= high - 1e-8 * abs(high)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
        assert f"{steps[0]:.0e}"[0] in "125"
    assert ticks(0, 0) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert len(ticks(3, 3)) >= 2


def test_the_length_of_a_bar_is_its_value() -> None:
    drawn = bars(Bars("title", ["a", "b", "c"], [10.0, 5.0, 0.0]))
    widths = [float(part.attributes["width"]) for part in drawn.parts if part.tag == "rect"]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert widths[2] == 0
    assert "a 10; b 5; c 0" in drawn.description
    right = max(float(part.attributes.get("x", 0)) for part in drawn.parts)
    assert right < drawn.width


def test_the_height_of_a_bar_is_its_count() -> None:
    drawn = histogram(Histogram("title", [0, 10, 20, 30], [4, 0, 2]))
    heights = [float(part.attributes["height"]) for part in drawn.parts if part.tag == "rect"]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert len(heights) == 2


def test_a_curve_goes_through_its_points_and_breaks_at_a_gap() -> None:
    nan = float("nan")
    drawn = lines(Lines("title", {"loss": ([0, 1, 2, 3, 4, 5], [0.0, 1.0, nan, 0.5, 1.0, 0.0])}))
    curves = [part.attributes["points"].split() for part in drawn.parts if part.tag == "polyline"]
    assert [len(points) for points in curves] == [2, 3]
    points = [tuple(map(float, point.split(","))) for point in curves[0] + curves[1]]
    across, up = np.array(points).T
    np.testing.assert_allclose(
        np.diff(across),
        [across[1] - across[0], 2 * (across[1] - across[0])] + [across[1] - across[0]] * 2,
        atol=0.2,
    )
    low, high = up.max(), up.min()  # SVG counts rows downwards
    np.testing.assert_allclose((low - up) / (low - high), [0, 1, 0.5, 1, 0], atol=0.01)


def test_charts_of_nothing() -> None:
    for chart in (Bars("none", [], []), Histogram("none", [0, 1], [0]), Lines("none", {})):
        assert Parsed(page_text("title", [chart])).problems == []


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.25, "0.25"), (0, "0"), (1500, "1,500"), (20000, "20 k"), (3e6, "3 M"), (-2.5e9, "-2.5 G")],
)
def test_numbers_of_an_axis(value: float, words: str) -> None:
    assert number_words(value) == words


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(0, "0 %"), (1e-9, "<0.01 %"), (0.0012, "0.12 %"), (0.25, "25.0 %"), (1, "100.0 %")],
)
def test_what_is_not_zero_is_not_shown_as_zero(fraction: float, words: str) -> None:
    assert percent(fraction) == words


# --- images -------------------------------------------------------------------------------------------------


def decoded(uri: str) -> np.ndarray:
    kind, _, content = uri.partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert kind == f"data:image/{str(image.format).lower()}"
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("colours", [3, 256, 3000])
def test_an_exact_image_keeps_every_pixel(colours: int) -> None:
    table = RNG.integers(0, 256, (colours, 3), np.uint8)
    image = table[RNG.integers(0, colours, (60, 70))]
    np.testing.assert_array_equal(decoded(data_uri(image, exact=True)), image)
    np.testing.assert_array_equal(decoded(data_uri(image[..., 0], exact=True))[..., 0], image[..., 0])


def test_a_photo_is_small_and_close() -> None:
    rows, columns = np.mgrid[:200, :300]
    image = np.stack([rows, columns * 0.8, 255 - rows], axis=2).astype(np.uint8)
    uri = data_uri(image)
    assert len(uri) < 8000
    assert np.abs(decoded(uri).astype(int) - image).mean() < 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_ids_are_chosen_and_photos_are_averaged(dtype: type) -> None:
    ids: np.ndarray = RNG.integers(0, 4, (90, 60)).astype(dtype)
    found = shrunk(ids, most=30, exact=True)
    assert found.shape == (30, 20)
    np.testing.assert_array_equal(found, ids[1::3, 1::3])  # the centre of each 3 x 3
    photo = RNG.integers(0, 256, (60, 90, 3), np.uint8)
    mean = photo.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk(photo, most=30), mean, atol=0.51)
    assert shrunk(photo, most=90) is photo


# --- heatmaps, curves behind others, numbers of so many decimals --------------------------------------------


def confusion(count: int) -> Heatmap:
    names = [f"class {number}" for number in range(count)]
    values = RNG.dirichlet(np.ones(count), count)
    return Heatmap("confusion", names, names, values.tolist(), "predicted", "labelled")


@pytest.mark.parametrize("count", [1, 2, 21, 40])
def test_a_heatmap_has_a_square_for_each_value_and_the_same_numbers_as_a_table(count: int) -> None:
    block = confusion(count)
    drawn = heatmap(block)
    squares = [part for part in drawn.parts if part.tag == "rect"]
    assert len(squares) == count * count
    assert sum(part.attributes["class"] == "right" for part in squares) == count
    assert all(0 <= float(part.attributes["x"]) < drawn.width for part in squares)
    assert all(0 <= float(part.attributes["y"]) < drawn.height for part in squares)
    strength = [float(part.attributes["fill-opacity"]) ** 2 for part in squares]
    assert np.allclose(strength, np.ravel(block.values), atol=2e-3)
    found = Parsed(page_text("title", [block]))
    keys = [float(one["data-key"]) for one in found.all("td")]
    assert np.allclose(keys, 100 * np.ravel(block.values), atol=1e-12)


def test_a_heatmap_leaves_empty_what_is_not_finite() -> None:
    drawn = heatmap(Heatmap("a", ["x"], ["x", "y"], [[float("nan"), 1.0]]))
    assert [part.attributes["class"] for part in drawn.parts if part.tag == "rect"] == ["none", "wrong"]
    assert as_table(Heatmap("a", ["x"], ["y"], [[float("nan")]])).rows[0][1] is not None


def test_what_is_behind_is_drawn_first_and_takes_no_colour_of_the_others() -> None:
    chart = Lines("a", {"raw": ([0, 1], [0, 1]), "smooth": ([0, 1], [0, 1])}, behind=["raw"], dots=True)
    kinds = [part.attributes["class"] for part in lines(chart).parts if part.tag == "polyline"]
    assert kinds == ["line behind", "line s0", "line s0 dot", "line s0 dot"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Fixed(0.5), "0.5000"),
        (Fixed(1234.56, 1), "1,234.6"),
        (Fixed(float("nan")), "–"),
        (Fixed(1e-9, 2), "0.00"),
    ],
)
def test_a_number_of_so_many_decimals(cell: Fixed, words: str) -> None:
    assert cell_of(cell)["words"] == words
    key = cell_of(cell)["key"]
    assert key == "" if words == "–" else float(key) == cell.value
