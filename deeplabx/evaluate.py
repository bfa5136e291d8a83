"""deeplabx eval: a checkpoint's mIoU, everything but the place of the data taken from the checkpoint."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplabx.build import Described, dataset_of, described, restored
from deeplabx.engine.distributed import is_main
from deeplabx.engine.evaluator import evaluate as evaluate_split
from deeplabx.engine.evaluator import refuse_other_classes
from deeplabx.engine.launch import launch
from deeplabx.engine.memory import keep_freed_memory
from deeplabx.engine.metrics import Metrics, table


def evaluate(ckpt: str, folder: Path, *, change: Callable[[Any], None]) -> float:
    """Evaluate, print the table and write result.json into `folder`; the mIoU."""
    started = time.perf_counter()
    found = described(ckpt, change=change)
    config, path = found.description.config, found.checkpoint.path
    result = launch(measured, found, devices=config.trainer.devices)
    summary = {
        **result.to_plain(),
        "step": int(found.checkpoint.state["step"]),
        "seconds": round(time.perf_counter() - started, 1),
        "checkpoint": str(path),
        "split": config.dataset.split,
        "output_stride": config.backbone.output_stride,
        "eval": vars(config.eval),
    }
    (folder / "result.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{path}, split {config.dataset.split} of {config.dataset.name}, {result.images} images\n")
    print(table(result))
    if result.unreadable:
        print(
            f"\n{len(result.unreadable)} unreadable images were not counted, the first: "
            f"{result.unreadable[0]}"
        )
    print(f"\nwritten to {folder}/result.json")
    return result.miou


def measured(found: Described) -> Metrics:
    """The metrics of the split; one process's share of the work."""
    keep_freed_memory()
    config = found.description.config
    samples = dataset_of(config.dataset, split=config.dataset.split)
    refuse_other_classes(samples, found.description.classes, source=found.checkpoint.path)
    skip_unreadable = config.dataset.on_bad == "skip"
    return evaluate_split(
        restored(found), samples, skip_unreadable=skip_unreadable, progress=is_main() and sys.stderr.isatty()
    )
