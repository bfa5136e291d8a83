"""deeplabx eval: a checkpoint's mIoU, everything but the place of the data taken from the checkpoint."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplabx.build import dataset_of, restored
from deeplabx.engine.evaluator import evaluate as evaluate_split
from deeplabx.engine.evaluator import refuse_other_classes
from deeplabx.engine.metrics import table


def evaluate(ckpt: str, folder: Path, *, change: Callable[[Any], None]) -> float:
    """Evaluate, print the table and write result.json into `folder`; the mIoU."""
    started = time.perf_counter()
    found = restored(ckpt, change=change)
    config = found.description.config
    samples = dataset_of(config.dataset, split=config.dataset.split)
    refuse_other_classes(samples, found.description.classes, source=found.path)
    result = evaluate_split(found.predictor, samples, progress=True)
    summary = {
        **result.to_plain(),
        "images": len(samples),
        "step": found.step,
        "seconds": round(time.perf_counter() - started, 1),
        "checkpoint": str(found.path),
        "split": config.dataset.split,
        "output_stride": config.backbone.output_stride,
        "eval": vars(config.eval),
    }
    (folder / "result.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{found.path}, split {config.dataset.split} of {config.dataset.name}, {len(samples)} pictures\n")
    print(table(result))
    print(f"\nwritten to {folder}/result.json")
    return result.miou
