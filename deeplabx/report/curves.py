"""The run's curves, drawn from its metrics.jsonl."""

import json
from pathlib import Path


def import_matplotlib() -> None:
    """Import what `draw_curves` needs, in a thread beside other work."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def draw_curves(folder: Path) -> Path | None:
    """Write plots/curves.png: loss and learning rate by step, mIoU by step. None when nothing was logged."""
    from matplotlib.figure import Figure  # imported only when a figure is drawn

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "miou" in line]
    if not steps:
        return None
    figure = Figure(figsize=(10, 3.6))
    # the constrained layout draws everything twice
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.14, top=0.91, wspace=0.18)
    left, right = figure.subplots(1, 2)
    left.plot([line["step"] for line in steps], [line["loss"] for line in steps], linewidth=1)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    left.set_ylim(bottom=0)
    if evaluations:
        right.plot([line["step"] for line in evaluations], [line["miou"] for line in evaluations], marker="o")
    right.set(xlabel="step", ylabel="mIoU", title="mIoU on the evaluated split", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
    path = folder / "plots" / "curves.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
