from pathlib import Path

import numpy as np
import pytest

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.statistics import SplitStatistics, summed
from deeplabx.report.stats_page import terminal_text, write_stats_page
from tests.report.page.parsed import Parsed

RNG = np.random.default_rng(0)


def statistics(split: str, classes: int) -> SplitStatistics:
    facts = [
        Facts(split, index, size=(40 + index, 30), pixels=RNG.integers(0, 99, classes + 1))
        for index in range(9)
    ]
    return summed(facts, split=split, num_classes=classes)


@pytest.mark.parametrize("count", [2, 45])
def test_no_class_is_left_out(tmp_path: Path, count: int) -> None:
    classes = [f"class {number}" for number in range(count)]
    found = [statistics("train", count), statistics("val", count)]
    palette = [(number, 0, 0) for number in range(count)]
    write_stats_page(tmp_path / "a.html", "own", classes, palette, found, training=found[0])
    page = Parsed((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.problems == []
    for at, name in enumerate(classes):
        assert page.inside["bdi"].count(name) == 2  # pixels, weights
        assert f"{found[1].pixels[at]:,}" in page.inside["bdi"]
    text = terminal_text("own", classes, found, training=found[0])
    assert all(f"\n{name} " in text for name in classes)
    assert ("loss.class_balance=enet" in text) == (count > 40)
    assert ("loss.class_weights=[" in text) == (count <= 40)


def test_a_split_of_which_nothing_was_read(tmp_path: Path) -> None:
    found = [summed([], split="train", num_classes=2)]
    write_stats_page(tmp_path / "a.html", "own", ["a", "b"], [(0, 0, 0)] * 2, found, training=found[0])
    page = Parsed((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "No image could be read." in page.text
    assert "There is no valid pixel" in page.text
    assert "nan" not in terminal_text("own", ["a", "b"], found, training=found[0])
