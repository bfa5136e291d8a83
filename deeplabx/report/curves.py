"""The run's curves, drawn from its metrics.jsonl."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.dataset.json_file import nan_number
from deeplabx.dataset.writing import place_for
from deeplabx.report.lettering import dejavu_path, legible
from deeplabx.report.metrics_file import logged
from deeplabx.report.smoothing import running_mean, window_of

SKEWED = 6  # a log axis helps where the largest value is this many times the median
MOST_LINES = 10  # classes that are drawn as lines; of more, a map of classes by steps
MOST_NAMES = 25  # classes that are named beside such a map; of more, some
RAW, LINE, BEST, BAD = "#b9c6d8", "#1f5fa8", "#c2410c", "#b91c1c"


def import_matplotlib() -> None:
    """Import what `draw_curves` needs, in a thread beside other work."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def draw_curves(folder: Path) -> Path | None:
    """Write plots/curves.png: loss, learning rate, mIoU and each class's IoU by step. None when nothing was
    logged.
    """
    from matplotlib.figure import Figure  # imported only when a figure is drawn

    lines = logged(folder / "metrics.jsonl")
    steps = [line for line in lines if "lr" in line]
    evaluations = [line for line in lines if "miou" in line]
    if not steps and not evaluations:
        return None
    figure = Figure(figsize=(11, 6.6))
    # the constrained layout draws everything twice
    between = 0.36 if len(class_names(evaluations)) > MOST_LINES else 0.17  # room for names beside the map
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.08, top=0.94, wspace=between, hspace=0.34)
    loss, miou, lr, classes = figure.subplots(2, 2).flat
    draw_loss(loss, steps)
    draw_lr(lr, steps)
    draw_miou(miou, evaluations)
    draw_classes(classes, evaluations)
    last = max(line["step"] for line in (*steps, *evaluations))
    for axes in (loss, lr, miou, classes):
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(10)
        if axes.has_data():
            steps_axis(axes, last)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    path = folder / "plots" / "curves.png"
    place_for(path).write_bytes(content.getvalue())
    return path


# --- the four figures ---------------------------------------------------------------------------------------


def draw_loss(axes: Any, lines: Sequence[dict[str, Any]]) -> None:
    """The logged losses, pale, and their running mean; steps whose loss was not finite are marked."""
    steps, values = column(lines, "step"), column(lines, "loss")
    count = window_of(len(values))
    mean = running_mean(values, count)
    title = "training loss" if count == 1 else f"training loss: as logged, and mean of {count} around each"
    axes.set(title=title, ylabel="loss")
    axes.plot(steps, values, color=RAW if count > 1 else LINE, linewidth=1, **markers(values))
    if count > 1:
        axes.plot(steps, mean, color=LINE, linewidth=1.6)
    value_axis(axes, mean)
    bad = ~np.isfinite(values)
    if bad.any():
        # at the lower edge, whatever the scale of the axis
        below = axes.get_xaxis_transform()
        axes.plot(steps[bad], np.full(bad.sum(), 0.02), "x", color=BAD, transform=below, clip_on=False)
        words = f"x: loss not finite, {bad.sum()} of {len(bad)}"
        axes.text(0.98, 0.95, words, color=BAD, ha="right", va="top", transform=axes.transAxes)


def draw_lr(axes: Any, lines: Sequence[dict[str, Any]]) -> None:
    values = column(lines, "lr")
    axes.set(title="learning rate", ylabel="learning rate", xlabel="step")
    axes.plot(column(lines, "step"), values, color=LINE, linewidth=1.6, **markers(values))
    value_axis(axes, values)
    if axes.get_yscale() == "linear":
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)


def draw_miou(axes: Any, lines: Sequence[dict[str, Any]]) -> None:
    axes.set(title="mIoU on the evaluated split", ylabel="mIoU")
    if not lines:
        nothing(axes, "no evaluation yet")
        return
    steps, values = column(lines, "step"), column(lines, "miou")
    axes.plot(steps, values, color=LINE, linewidth=1.6, marker="o", markersize=4)
    if np.isfinite(values).any():
        best = int(np.nanargmax(values))  # the first of equal ones, as the run keeps it
        axes.plot(steps[best], values[best], marker="o", markersize=9, color=BEST, fillstyle="none", mew=2)
        axes.set_title(f"mIoU on the evaluated split: best {values[best]:.4f} at step {int(steps[best])}")
    share_axis(axes, values)


def draw_classes(axes: Any, lines: Sequence[dict[str, Any]]) -> None:
    """IoU of each class: lines of a few classes, a map of many."""
    axes.set(title="IoU of each class", xlabel="step")
    names = class_names(lines)
    if not names:
        nothing(axes, "no evaluation yet" if not lines else "not recorded by the version that trained it")
        return
    steps = column(lines, "step")
    values = np.array([[nan_number(iou_of(line).get(name)) for line in lines] for name in names])
    shown = [label(name, index) for index, name in enumerate(names)]
    if len(names) > MOST_LINES:
        draw_map(axes, steps, values, shown)
        return
    for name, row in zip(shown, values, strict=True):
        axes.plot(steps, row, linewidth=1.4, marker="o", markersize=3, label=name)
    axes.set_ylabel("IoU")
    share_axis(axes, values)
    axes.legend(fontsize=7, ncols=2, loc="best", framealpha=0.7)


def draw_map(axes: Any, steps: np.ndarray, values: np.ndarray, names: Sequence[str]) -> None:
    """Classes from top to bottom, evaluations from left to right, IoU as colour; grey where a class was
    neither labelled nor predicted.
    """
    edges = np.concatenate([[0], steps])  # an evaluation fills the steps since the one before it
    axes.set_facecolor("#d5d8dd")
    grid = np.arange(len(names) + 1)
    drawn = axes.pcolormesh(edges, grid, np.ma.masked_invalid(values), vmin=0, vmax=1, cmap="viridis")
    axes.invert_yaxis()
    every = math.ceil(len(names) / MOST_NAMES)
    axes.set_yticks(grid[:-1:every] + 0.5, [names[index] for index in grid[:-1:every]])
    axes.figure.colorbar(drawn, ax=axes, pad=0.02, fraction=0.05).ax.tick_params(labelsize=7)
    if every > 1:
        axes.set_title(f"IoU of each of {len(names)} classes, every {every}th named")
    axes.tick_params(axis="y", labelsize=6, length=2)


# --- axes ---------------------------------------------------------------------------------------------------


def steps_axis(axes: Any, last: int) -> None:
    """From 0 to the last step, which all figures share; whole steps at round numbers, and a pale grid."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.set_xlim(0, last * 1.02)
    if not axes.collections:
        axes.grid(alpha=0.3)


def value_axis(axes: Any, values: np.ndarray) -> None:
    """A log axis where a few large values would press all others to the bottom; else one from 0."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > SKEWED * np.median(finite):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, float(finite.min())) if len(finite) else 0.0)


def share_axis(axes: Any, values: np.ndarray) -> None:
    """From 0 to the next tenth above the largest value."""
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if len(finite) else 1.0
    axes.set_ylim(0, min(1.0, math.ceil(top * 10.5) / 10) if top > 0 else 1.0)


def nothing(axes: Any, words: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, words, ha="center", va="center", color="#666", transform=axes.transAxes)


def markers(values: np.ndarray) -> dict[str, Any]:
    """Points where a line alone would not be seen."""
    return {"marker": "o", "markersize": 3} if np.isfinite(values).sum() < 3 else {}


# --- values -------------------------------------------------------------------------------------------------


def column(lines: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """float64 of each line; nan where it is absent or not a number."""
    return np.array([nan_number(line.get(name)) for line in lines], dtype=np.float64)


def iou_of(line: dict[str, Any]) -> dict[str, Any]:
    """IoU by class of an evaluation's line; empty in those of versions that did not record it."""
    found = line.get("per_class_iou")
    return found if isinstance(found, dict) else {}


def class_names(lines: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in iou_of(line)))


def label(name: str, index: int) -> str:
    """A class's name as matplotlib draws it."""
    shown, font = legible(name, index, 12, width=130)
    if font.path != dejavu_path():  # a letter that its own font has not would be a warning and a box
        return f"class {index}"
    return shown.replace("$", r"\$")  # which begins a formula
