import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from deeplabx.report.curves import (
    draw_classes,
    draw_curves,
    draw_loss,
    draw_lr,
    draw_miou,
)
from deeplabx.report.metrics_file import logged

NAMES = ["sky", "a$b_c^d", "道路", "x" * 300]


def steps(losses: Sequence[float | None]) -> list[dict[str, Any]]:
    return [{"step": 10 * index + 10, "loss": loss, "lr": 0.1} for index, loss in enumerate(losses)]


def evaluation(step: int, miou: float, ious: Sequence[float | None]) -> dict[str, Any]:
    names = [*NAMES, *(f"class {index}" for index in range(200))]
    return {"step": step, "miou": miou, "per_class_iou": dict(zip(names, ious, strict=False))}


@pytest.mark.parametrize(
    "lines",
    [
        [{"step": 1, "loss": 0.5, "lr": 0.1}],
        steps([None, None, None]),
        steps([math.nan, 1.0, math.inf, 0.5]),
        [
            *steps([3.0, 2.0, 1.0] * 40),
            evaluation(600, 0.3, [0.1, None, 0.5, 0.6]),
            evaluation(1200, 0.4, [0.2] * 4),
        ],
        [*steps([1.0, 2.0]), {"step": 20, "miou": 0.5}],  # of a version without IoU of each class
        [*steps([1.0]), evaluation(10, 0.5, [0.5] * 150), evaluation(11, 0.5, [None] * 150)],
        [evaluation(1, 0.0, [0.0, 0.0])],
        [*steps([1e-30, 1e300, 0.0, -1.0])],
    ],
)
def test_any_run_has_curves(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    """Warnings, as of letters that the font has not, are errors in these tests."""
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4')
    path = draw_curves(tmp_path)
    assert path == tmp_path / "plots" / "curves.png"
    with Image.open(path) as image:
        assert min(image.size) > 600


@pytest.mark.parametrize("text", ["", "{}\n", "[1]\nnot json\n", '{"step": "x", "lr": 1}\n'])
def test_without_a_logged_step_there_is_no_image(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    assert logged(tmp_path / "metrics.jsonl") == []
    assert draw_curves(tmp_path) is None


def axes() -> Any:
    return Figure().subplots()


def drawn(axes: Any, index: int = 0) -> list[tuple[float, float]]:
    return list(map(tuple, axes.lines[index].get_xydata().tolist()))


def test_the_lines_are_the_logged_values() -> None:
    lines = [*steps([3.0, 2.0, 1.0])]
    evaluations = [evaluation(10, 0.25, [0.5, None]), evaluation(20, 0.5, [0.25, 0.75])]
    loss, miou, classes = axes(), axes(), axes()
    draw_loss(loss, lines)
    draw_miou(miou, evaluations)
    draw_classes(classes, evaluations)
    assert drawn(loss) == [(10, 3.0), (20, 2.0), (30, 1.0)]
    assert drawn(miou) == [(10, 0.25), (20, 0.5)]
    assert drawn(miou, 1) == [(20, 0.5)]  # the best, marked
    assert "best 0.5000 at step 20" in miou.get_title()
    assert drawn(classes) == [(10, 0.5), (20, 0.25)]
    assert math.isnan(drawn(classes, 1)[0][1])


def test_losses_that_are_not_finite_are_counted() -> None:
    loss = axes()
    draw_loss(loss, steps([1.0, None, 0.5, None]))
    assert [text.get_text() for text in loss.texts] == ["x: loss not finite, 2 of 4"]


@pytest.mark.parametrize(
    ("values", "scale"), [([0.1, 0.09, 0.05, 0.001], "linear"), ([0.1, 0.01, 0.01, 0.001, 0.001], "log")]
)
def test_a_log_axis_is_for_a_few_large_values(values: list[float], scale: str) -> None:
    found = axes()
    draw_lr(found, [{"step": index, "lr": value} for index, value in enumerate(values)])
    assert found.get_yscale() == scale
