"""Pages in a browser: needs playwright (`pip install playwright`) and a Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplabx.report.page import write_page
from tests.browser import VIEWS, chromium, shown
from tests.report.page.test_page import every_block

pytestmark = pytest.mark.slow
CELLS = "[...document.querySelector('table.sortable').tBodies[0].rows].map((row) => row.cells[5])"
LONG = "a/very/long/path/" + "without_a_space_" * 12 + "<b>.png"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture(params=VIEWS, ids=str)
def page(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page with a block of each kind."""
    write_page(tmp_path / "page.html", "title", every_block(LONG))
    with shown(browser, tmp_path / "page.html", request.param) as one:
        yield one


def contrast(page: Any, selector: str) -> float:
    """The WCAG contrast of an element's text with the nearest background behind it."""
    return page.evaluate(
        """(selector) => {
            const light = (colour) => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((one) => one / 255)
                    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const element = document.querySelector(selector);
            let behind = element;
            const ground = (one) => getComputedStyle(one).backgroundColor;
            while (ground(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
            const [a, b] = [light(getComputedStyle(element).color), light(ground(behind))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }""",
        selector,
    )


def test_texts_can_be_read_in_light_and_dark(page: Any) -> None:
    for selector in (
        "h1",
        "h2",
        "p",
        "td",
        "thead",
        "summary",
        "pre",
        ".badge",
        "figcaption",
        "footer",
        "nav",
    ):
        assert contrast(page, selector) >= 4.5, selector


def test_a_table_is_sorted_by_keyboard(page: Any) -> None:
    page.evaluate(
        f"{CELLS}.forEach((cell, at) => {{ cell.dataset.key = cell.textContent = `${{7 - at}}`; }})"
    )
    button = page.locator("thead button").nth(5)
    button.focus()
    column = f"{CELLS}.map((cell) => cell.textContent)"
    page.keyboard.press("Enter")
    assert page.evaluate(column) == ["7", "6"]  # numbers: the largest first
    page.keyboard.press("Enter")
    assert page.evaluate(column) == ["6", "7"]
    assert page.locator("thead th").nth(5).get_attribute("aria-sort") == "ascending"


def test_details_open_and_images_are_decoded(page: Any) -> None:
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    widths = page.evaluate("() => [...document.images].map((one) => one.naturalWidth)")
    assert widths == [40, 40]


def test_a_command_is_copied(page: Any) -> None:
    button = page.locator("button.copy").first
    button.click()
    page.get_by_text("Copied").or_(page.get_by_text("Press Ctrl-C")).first.wait_for()
