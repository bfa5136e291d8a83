"""Loss, learning rate and IoU over the steps of a run."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplabx.dataset.json_file import nan_number, number
from deeplabx.report.page import Beside, Block, Details, Lines, Section, Table, Text
from deeplabx.report.page.blocks import Cell
from deeplabx.report.run_page.facts import Facts
from deeplabx.report.smoothing import running_mean, window_of

MOST_POINTS = 300  # of a curve; more are averaged
FEWEST = 10  # steps that are worth smoothing
IN_A_CHART = 6  # classes, one for each colour of curves
MOST_CHARTS = 4
MOST_ROWS = 200  # evaluations in the table


def curves(facts: Facts) -> list[Section]:
    """The section, for a run that has logged something."""
    if not facts.is_run:
        return []
    blocks = [*training(facts.history.steps), *evaluations(facts.history.evaluations)]
    return [Section("Training", blocks)] if blocks else []


def training(lines: Sequence[dict[str, Any]]) -> list[Block]:
    if not lines:
        return []
    steps = np.array([nan_number(line["step"]) for line in lines])
    loss, lr = (np.array([nan_number(line.get(name)) for line in lines]) for name in ("loss", "lr"))
    series = {"loss": points(steps, loss)}
    behind = []
    if len(steps) >= FEWEST:
        smoothed = running_mean(loss, window_of(len(loss)))
        series = {"smoothed": points(steps, smoothed), "as logged": points(steps, loss)}
        behind = ["as logged"]
    blocks: list[Block] = [
        Beside(
            [
                Lines("Training loss", series, "step", "loss", behind),
                Lines("Learning rate", {"learning rate": points(steps, lr)}, "step", ""),
            ]
        )
    ]
    lost = int(np.isnan(loss).sum())
    if lost:
        blocks.append(Text(f"At {lost:,} of the logged steps the loss was not a finite number: gaps."))
    return blocks


def points(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """A curve of at most MOST_POINTS; each is the mean of those that it stands for."""
    if len(x) <= MOST_POINTS:
        return x.tolist(), y.tolist()
    parts = np.array_split(np.arange(len(x)), MOST_POINTS)
    means = [
        float(y[part][np.isfinite(y[part])].mean()) if np.isfinite(y[part]).any() else math.nan
        for part in parts
    ]
    return [float(x[part].mean()) for part in parts], means


def evaluations(lines: Sequence[dict[str, Any]]) -> list[Block]:
    if not lines:
        return [Text("No evaluation is logged yet.")]
    steps = [nan_number(line["step"]) for line in lines]
    shown = {
        "mIoU": [nan_number(line.get("miou")) for line in lines],
        "pixel accuracy": [nan_number(line.get("pixel_accuracy")) for line in lines],
    }
    charts: list[Block] = [
        Lines(
            "On the evaluated split",
            {name: (steps, values) for name, values in shown.items()},
            "step",
            dots=True,
        )
    ]
    charts += class_charts(lines)
    rows: list[list[Cell]] = [
        [int(step), *(number(line.get(name)) for name in ("miou", "pixel_accuracy", "mean_class_accuracy"))]
        for step, line in list(zip(steps, lines, strict=True))[-MOST_ROWS:]
    ]
    table = Table(["step", "mIoU", "pixel accuracy", "mean class accuracy"], rows)
    together = Beside(charts) if len(charts) > 1 else charts[0]
    return [together, Details("All evaluations as a table", [table])]


def class_charts(lines: Sequence[dict[str, Any]]) -> list[Block]:
    """IoU of each class, where the log has it: six classes in a chart, the worst of the last evaluation
    first.
    """
    tables = [line["per_class_iou"] if isinstance(line.get("per_class_iou"), dict) else {} for line in lines]
    names = list(dict.fromkeys(name for table in tables for name in table))
    if not names:
        return []
    last = next(table for table in reversed(tables) if table)
    steps = [nan_number(line["step"]) for line in lines]
    order = sorted(names, key=lambda name: (number(last.get(name)) is None, nan_number(last.get(name))))
    charts: list[Block] = []
    for first in range(0, min(len(order), IN_A_CHART * MOST_CHARTS), IN_A_CHART):
        chosen = order[first : first + IN_A_CHART]
        series = {str(name): (steps, [nan_number(table.get(name)) for table in tables]) for name in chosen}
        ranks = f"{first + 1} to {first + len(chosen)}" if len(chosen) > 1 else f"{first + 1}"
        words = f"IoU of the classes ranked {ranks}, lowest first"
        charts.append(Lines(words, series, "step", dots=True))
    left = len(order) - IN_A_CHART * MOST_CHARTS
    if left > 0:
        charts.append(Text(f"The {left} classes with a higher IoU are in metrics.jsonl and in the table."))
    return charts
