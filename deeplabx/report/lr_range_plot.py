"""The figure of a learning-rate range test."""

import io
from collections.abc import Sequence
from pathlib import Path

from deeplabx.dataset.writing import place_for
from deeplabx.report.curves import BEST, LINE, RAW


def draw_lr_range(
    folder: Path, *, rates: Sequence[float], losses: Sequence[float], means: Sequence[float], found: float
) -> Path:
    """Write plots/find_lr.png: losses and their running means by learning rate, and the one found."""
    from matplotlib.figure import Figure  # imported only when a figure is drawn

    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.13, top=0.9)
    axes.plot(rates, losses, color=RAW, linewidth=1)
    axes.plot(rates, means, color=LINE, linewidth=1.6)
    axes.axvline(found, color=BEST, linewidth=1.2)
    axes.set_xscale("log")
    top = 1.2 * max(means[: max(1, len(means) // 2)])
    axes.set_ylim(min(0.0, min(means)), max(top, 1.05 * means[0]))
    axes.set(
        title=f"loss by learning rate, and its running mean; found: {found:.3g}",
        xlabel="learning rate",
        ylabel="loss",
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    path = folder / "plots" / "find_lr.png"
    place_for(path).write_bytes(content.getvalue())
    return path
