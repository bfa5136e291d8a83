"""A page in headless Chromium, for slow tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

VIEWS = [(1280, "light"), (390, "light"), (390, "dark"), (1280, "dark")]  # width and colour scheme


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser. Without playwright (`pip install playwright`) or a Chromium the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium; CHROMIUM=PATH names one")
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield one
        one.close()


@contextmanager
def shown(browser: Any, path: Path, view: tuple[int, str]) -> Iterator[Any]:
    """A file in a view. It must log nothing, request nothing, and not scroll sideways."""
    width, scheme = view
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    one, complaints = context.new_page(), []
    one.on("pageerror", lambda error: complaints.append(str(error)))
    one.on("console", lambda message: complaints.append(message.text))
    own = ("data:", f"file://{path}")
    one.on("request", lambda sent: None if sent.url.startswith(own) else complaints.append(sent.url))
    one.goto(f"file://{path}")
    yield one
    assert one.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert complaints == []
