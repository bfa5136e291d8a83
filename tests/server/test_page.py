"""The page in a browser: needs playwright (`pip install playwright`) and a Chromium."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabx.server.contract import Segmentation
from tests.browser import chromium
from tests.server.stub import CLASSES, LIMITS, file_of, listening, photo, stub

pytestmark = pytest.mark.slow
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
LEFT, RIGHT = 0.25, 0.75  # of the width: where the stub image is of its first and of its second class


def halves() -> bytes:
    """An image whose left half is class 1 with a probability of 0.8, its right half class 2 with 1."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, :40] = (1, 204, 0)
    image[:, 40:] = (2, 255, 0)
    return file_of(image)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """The page of a stub server, at the width of a desk and of a phone. It must log nothing and load nothing
    from elsewhere.
    """
    width, height = SIZES[request.param]
    with listening(stub()) as (port, _):
        context = browser.new_context(viewport={"width": width, "height": height})
        one = context.new_page()
        address, complaints = f"http://127.0.0.1:{port}/", []
        one.on("pageerror", lambda error: complaints.append(str(error)))
        one.on("console", lambda message: complaints.append(message.text))
        one.on("request", lambda sent: elsewhere(sent.url, address, complaints))
        one.goto(address)
        one.get_by_text("a stub").wait_for()  # wait_for_function needs eval, which the page forbids
        yield one
        assert one.evaluate("document.documentElement.scrollWidth") <= width
        context.close()
        # The browser logs a refused request, and that `drawn` reads a canvas often.
        assert [one for one in complaints if "422" not in one and "getImageData" not in one] == []


def elsewhere(url: str, address: str, complaints: list[str]) -> None:
    if not url.startswith((address, "blob:")):
        complaints.append(url)


def dropped(page: Any, content: bytes, name: str = "halves.png") -> None:
    """Drop a file on the page."""
    page.evaluate(
        """([text, name]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
        }""",
        [base64.b64encode(content).decode(), name],
    )


def drawn(page: Any, across: float) -> list[int]:
    """Red, green, blue and opacity of the canvas over the image, at half its height."""
    found: list[int] = page.evaluate(
        """(across) => {
            const canvas = document.getElementById("colours");
            const [x, y] = [Math.floor(across * canvas.width), canvas.height >> 1];
            return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
        }""",
        across,
    )
    return found


def shown(page: Any, content: bytes) -> Any:
    dropped(page, content)
    page.wait_for_selector("#result:not([hidden])")
    return page.locator("#stage").bounding_box()


def test_a_dropped_image_is_shown_with_its_classes(page: Any) -> None:
    shown(page, halves())
    assert drawn(page, LEFT) == [200, 30, 60, 255]
    assert drawn(page, RIGHT) == [20, 90, 250, 255]
    rows = page.locator("#legend li").all_inner_texts()
    assert [" ".join(row.split()) for row in rows] == [f"{CLASSES[1]} 50 %", f"{CLASSES[2]} 50 %"]
    assert page.evaluate("document.getElementById('image').naturalWidth") == 80


def test_the_slider_sets_the_opacity(page: Any) -> None:
    shown(page, halves())
    page.locator("#opacity").fill("20")
    assert page.evaluate("getComputedStyle(document.getElementById('colours')).opacity") == "0.2"
    assert page.inner_text("#percent") == "20 %"


def test_a_class_is_hidden_and_highlighted(page: Any) -> None:
    shown(page, halves())
    page.locator("#legend input").first.uncheck()
    page.mouse.move(1, 1)
    assert drawn(page, LEFT)[3] == 0
    assert drawn(page, RIGHT)[3] == 255
    page.locator("#all").click()
    assert drawn(page, LEFT)[3] == 255
    page.locator("#legend li").first.hover()
    assert (drawn(page, LEFT)[3], drawn(page, RIGHT)[3]) == (255, 0)
    page.locator("#none").click()
    page.mouse.move(1, 1)
    assert (drawn(page, LEFT)[3], drawn(page, RIGHT)[3]) == (0, 0)


def test_class_and_probability_are_read_with_mouse_and_keys(page: Any) -> None:
    box = shown(page, halves())
    page.mouse.move(box["x"] + box["width"] * LEFT, box["y"] + box["height"] / 2)
    assert page.inner_text("#pixel").startswith("<b>bold</b>, 80 %")  # a class's name is text
    page.mouse.move(box["x"] + box["width"] * RIGHT, box["y"] + box["height"] / 2)
    assert page.inner_text("#pixel").startswith("sky, 100 %")
    page.locator("#stage").focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    assert page.inner_text("#pixel").startswith("<b>bold</b>, 80 %")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    assert "x 0," in page.inner_text("#pixel")


def test_ids_and_overlay_are_saved(page: Any, tmp_path: Path) -> None:
    shown(page, halves())
    for button, name in (("#save-ids", "halves.png"), ("#save-overlay", "halves_overlay.png")):
        with page.expect_download() as saved:
            page.locator(button).click()
        assert saved.value.suggested_filename == name
        assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_an_error_is_shown_in_words_and_the_next_image_removes_it(page: Any) -> None:
    dropped(page, b"hello")
    page.wait_for_selector("#error:not([hidden])")
    assert "not a readable image" in page.inner_text("#error")
    shown(page, halves())
    assert page.locator("#error").is_hidden()


def test_a_format_that_the_browser_cannot_show_is_shown_by_the_server(page: Any) -> None:
    shown(page, file_of(photo(60, 80), "TIFF"))
    assert "the browser cannot show this format" in page.inner_text("#note")
    assert page.evaluate("document.getElementById('image').naturalWidth") == 80


def test_a_large_image_and_one_without_probabilities(browser: Any) -> None:
    """Drawn on a smaller canvas; each pixel is read all the same."""
    limits = LIMITS.__class__(max_bytes=10**8, max_pixels=10**8, queue=2, timeout=60.0)
    server = stub(lambda image, *_: Segmentation((image[..., 0] % 3).astype(np.uint8)), limits=limits)
    large = np.zeros((3000, 4000, 3), np.uint8)
    large[:, 2000:] = 1
    with listening(server) as (port, _):
        one = browser.new_page(viewport={"width": 1280, "height": 900})
        one.goto(f"http://127.0.0.1:{port}/")
        box = shown(one, file_of(large))
        assert one.evaluate("document.getElementById('colours').width") == 2000
        one.mouse.move(box["x"] + box["width"] - 1, box["y"] + 1)
        assert one.inner_text("#pixel").startswith("<b>bold</b> (x 39")
        assert "no probabilities" in one.inner_text("#note")
        one.close()
