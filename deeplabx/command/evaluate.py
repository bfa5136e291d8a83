"""deeplabx eval: a checkpoint's mIoU. All settings but the data set's root come from the checkpoint."""

import json
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.command.weights import checkpoint_of
from deeplabx.dataset.check.headers import check_headers
from deeplabx.engine.evaluator import InterruptedEvaluationError, refuse_other_classes
from deeplabx.engine.evaluator import evaluate as evaluate_split
from deeplabx.engine.metrics import Metrics, table
from deeplabx.process.distributed import is_main, resolve_device
from deeplabx.process.launch import launch
from deeplabx.process.signals import StopRequest, stopped
from deeplabx.run import plugins
from deeplabx.run.build import dataset_of
from deeplabx.run.changed_data import evaluation_warnings
from deeplabx.run.description import Description, StoredModel, stored_model
from deeplabx.run.evaluation import add_seconds, cost_of, recorder_of, write_evaluation
from deeplabx.run.folder import newest_root
from deeplabx.run.loading import reader_of, workers_to_evaluate
from deeplabx.run.paths import refuse_moved
from deeplabx.run.report import report_quietly
from deeplabx.run.report_source import write_source


def main(job: Job) -> float:
    """Evaluate, print the table and write result.json into the job's folder; the mIoU."""
    started = time.perf_counter()
    found = stored_model(checkpoint_of(job.config.ckpt), change=job.changed)
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    result = evaluate(found, progress=sys.stderr.isatty(), folder=job.folder)
    config, path = found.config, found.checkpoint.path
    summary = {
        **result.to_plain(),
        "step": int(found.checkpoint.state["step"]),
        "checkpoint": path.name,  # evaluation.json has its folder, and cost.json the seconds
        "split": config.dataset.split,
        "output_stride": config.backbone.output_stride,
        "eval": vars(config.eval),
    }
    (job.folder / "result.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    add_seconds(job.folder, time.perf_counter() - started)
    print(f"{path}, split {config.dataset.split} of {config.dataset.name}, {result.images} images\n")
    print(table(result))
    if result.unreadable:
        print(
            f"\n{len(result.unreadable)} unreadable images were not counted, the first: "
            f"{result.unreadable[0]}"
        )
    write_source(job.folder, found, job.overrides, device=resolve_device(config.trainer.devices))
    reported = report_quietly(job.folder, lambda words: print(words, file=sys.stderr))
    print(f"\nwritten to {job.folder}/result.json{' and report.html' if reported else ''}")
    return result.miou


def evaluate(found: StoredModel, *, progress: bool = False, folder: Path | None = None) -> Metrics:
    """The metrics of the split that the config names, in as many processes as it says.

    folder: where the record of the evaluation is written; None: none is kept.
    """
    devices, stored = found.config.trainer.devices, Description.of(found.checkpoint)
    refuse_moved(
        found.config.dataset,
        stored=stored.config.dataset,
        source=found.checkpoint.path,
        command="deeplabx eval RUN",
        given_root=stored.data.given_root if stored.data else None,
        newer_root=newest_root(found.checkpoint.path),
    )
    return launch(measured, found, progress, folder, devices=devices, prepare=plugins.loader())


def measured(found: StoredModel, progress: bool, folder: Path | None) -> Metrics:
    """The metrics of the split; one process's share of the work."""
    config = found.config.dataset
    samples = dataset_of(config, split=config.split)
    for words in samples.left_out if is_main() else ():
        print(words, file=sys.stderr)
    path = found.checkpoint.path
    refuse_other_classes(samples, found.description.classes, source=path)
    if is_main():
        stored = Description.of(found.checkpoint)
        for words in evaluation_warnings(samples, config, stored=stored, folder=path.parent.parent):
            print(f"warning: {words}", file=sys.stderr)
    if is_main() and not samples.skip_unreadable:  # else the result lists what was skipped
        check_headers(samples)
    trainer = found.config.trainer
    device = resolve_device(trainer.devices)
    reader = reader_of(samples, workers=workers_to_evaluate(trainer.workers, device), device=device)
    step = int(found.checkpoint.state["step"])
    recorder = None if folder is None else recorder_of(samples, found.config, step=step)
    predictor = found.predictor()
    with StopRequest() as stop, closing(reader):
        try:
            result = evaluate_split(
                predictor,
                samples,
                reader=reader,
                stop=stop,
                progress=progress and is_main(),
                recorder=recorder,
            )
        except InterruptedEvaluationError as interrupted:
            name = signal.Signals(interrupted.number).name
            raise stopped(interrupted.number, f"{name} received: stopped, no result") from None
    if folder is not None and recorder is not None and is_main():
        cost = cost_of(recorder, found.config, predictor)
        write_evaluation(folder, recorder, cost)
    return result
