"""deeplabx eval: a checkpoint's mIoU. All settings but the data set's root come from the checkpoint."""

import json
import sys
import time
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.engine.evaluator import evaluate as evaluate_split
from deeplabx.engine.evaluator import refuse_other_classes
from deeplabx.engine.metrics import Metrics, table
from deeplabx.process.distributed import is_main
from deeplabx.process.launch import launch
from deeplabx.process.memory import keep_freed_memory
from deeplabx.run.build import dataset_of
from deeplabx.run.description import Change, StoredModel, stored_model


def main(job: Job) -> float:
    return evaluate(job.config.ckpt, job.folder, change=job.changed)


def evaluate(ckpt: str, folder: Path, *, change: Change) -> float:
    """Evaluate, print the table and write result.json into `folder`; the mIoU. change: of the stored
    config.
    """
    started = time.perf_counter()
    found = stored_model(ckpt, change=change)
    config, path = found.config, found.checkpoint.path
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


def measured(found: StoredModel) -> Metrics:
    """The metrics of the split; one process's share of the work."""
    keep_freed_memory()
    config = found.config.dataset
    samples = dataset_of(config, split=config.split)
    refuse_other_classes(samples, found.description.classes, source=found.checkpoint.path)
    return evaluate_split(found.predictor(), samples, progress=is_main() and sys.stderr.isatty())
