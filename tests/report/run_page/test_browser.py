"""The report of a run in a browser: needs playwright (`pip install playwright`) and a Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplabx.run.report import write_report
from tests.browser import VIEWS, chromium, shown
from tests.report.page.test_browser import contrast

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_run, tmp_path_factory.mktemp("report") / "run")
    return write_report(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture(params=VIEWS, ids=str)
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    with shown(browser, report, request.param) as one:
        yield one


def test_everything_is_shown(page: Any) -> None:
    widths = page.evaluate("() => [...document.images].map((one) => one.naturalWidth)")
    assert len(widths) >= 16
    assert min(widths) > 30
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter((one) => {
            const box = one.getBoundingClientRect();
            return box.right > innerWidth + 1 && !one.closest('.scroll, .heat, pre, summary');
        }).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert outside == []


def test_texts_can_be_read(page: Any) -> None:
    for selector in (
        "h1",
        "h2",
        "h3",
        "dd",
        "dt",
        "td",
        "p.quiet",
        "summary",
        "figcaption",
        ".tiles .good dd",
    ):
        assert contrast(page, selector) >= 4.5, selector


def test_percents_can_be_read_on_their_squares(page: Any) -> None:
    """The contrast of the text with the square's colour, which is blended with the card behind it."""
    found = page.evaluate(
        """() => {
            const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const light = (colour) => {
                const [r, g, b] = colour.map((one) => one / 255)
                    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = numbers(getComputedStyle(document.querySelector('.drawing')).backgroundColor);
            return [...document.querySelectorAll('.heat rect:not(.none)')].map((square) => {
                const style = getComputedStyle(square);
                const share = Number(style.opacity) * Number(style.fillOpacity);
                const fill = numbers(style.fill);
                return light(ground.map((one, at) => one * (1 - share) + fill[at] * share));
            }).filter((one) => Number.isFinite(one)).map((behind) => {
                const text = light(numbers(getComputedStyle(document.querySelector('.heat .value')).fill));
                return (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
            });
        }"""
    )
    assert len(found) > 7
    assert min(found) >= 4.5


def test_the_matrix_is_opened_and_the_classes_are_sorted_by_keyboard(page: Any) -> None:
    summary = page.get_by_text("The same as a table").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".heat ~ details[open] table").count() == 1
    section = page.locator("section", has=page.get_by_role("heading", name="Classes", exact=True))
    button = section.locator("thead button").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    table = button.locator("xpath=ancestor::table")
    keys = table.evaluate("(one) => [...one.tBodies[0].rows].map((row) => row.cells[1].dataset.key)")
    values = [float(key) for key in keys if key]
    assert values == sorted(values, reverse=True)
    assert len(values) >= 2
    heat = page.locator(".heat").first
    heat.focus()
    assert heat.evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"
