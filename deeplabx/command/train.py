"""deeplabx train."""

import math
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from deeplabx.command.job import Job, Watch
from deeplabx.command.train_evaluations import Evaluations, tried
from deeplabx.command.train_preparation import Prepared, prepared
from deeplabx.config import schema
from deeplabx.dataset.loader import Batch
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.doctor import RunDoctor
from deeplabx.engine.kernels import fix_workspace
from deeplabx.engine.lock import locked
from deeplabx.engine.log import Log
from deeplabx.engine.saver import Saver
from deeplabx.engine.state import TrainState
from deeplabx.engine.trainer import fit
from deeplabx.errors import (
    ConfigError,
    DataError,
    PreemptedError,
    ResourceError,
    StoppedError,
    listed,
)
from deeplabx.process.distributed import (
    is_main,
)
from deeplabx.process.launch import launch
from deeplabx.process.signals import StopRequest
from deeplabx.report.background import Background
from deeplabx.report.curves import draw_curves
from deeplabx.report.next_commands import evaluate_words, next_line, resume_sweep_words
from deeplabx.report.sweep_jobs import SUMMARY
from deeplabx.run import plugins
from deeplabx.run.build import (
    batches_of,
    log_of,
    predictor_of,
)
from deeplabx.run.changed_data import write_names
from deeplabx.run.description import Description
from deeplabx.run.evaluation import PREVIOUS, add_seconds, restore_previous
from deeplabx.run.find_lr import FOUND_LR
from deeplabx.run.folder import (
    beginning,
    mark,
    next_command,
    refuse_or_find_finished,
    write_result,
    write_run_files,
)
from deeplabx.run.loading import reader_of
from deeplabx.run.opening import opening_words
from deeplabx.run.report import REPORT, Reports
from deeplabx.run.tracking import tracked_run, tracker_of
from deeplabx.run.watching import alarms_at_start, as_labelled, doctor_of
from deeplabx.tracker.contract import Run, Tracker

EVALUATIONS = 5  # of a run, when trainer.eval_every is not set


def main(job: Job) -> float:
    if (job.folder / SUMMARY).is_file():
        raise ConfigError(
            f"{job.folder} holds a sweep, not a run",
            hint=f"{resume_sweep_words(job.folder)} runs what it has not finished; a run "
            "needs another folder: hydra.run.dir=FOLDER",
        )
    from deeplabx.command.stages import train_all  # here, because it builds on this module

    return train_all(job.config, job.folder, overrides=job.overrides, watch=job.watch)


def train(
    config: schema.TrainConfig, folder: Path, *, overrides: list[str], watch: Watch | None = None
) -> float:
    """Train in `folder`, where no other run is at work; the best mIoU. Leaves DONE, FAILED or INTERRUPTED
    there. watch: of the evaluations, in the main process.
    """
    with locked(folder) as warning:
        if warning:
            print(warning, file=sys.stderr)
        finished = refuse_or_find_finished(folder, resume=config.resume)
        if finished is not None:
            command = evaluate_words(folder, plugins=plugins.as_overrides())
            print(f"{folder} is finished: best mIoU {finished:.4f}; {command} evaluates it")
            return finished
        trainer, before = config.trainer, beginning(folder)
        try:
            best = launch(
                worker,
                config,
                folder,
                overrides,
                watch,
                devices=trainer.devices,
                backend=trainer.backend,
                max_restarts=trainer.max_restarts,
                prepare=plugins.loader(),
            )
        except ConfigError:
            raise  # nothing began, so nothing is changed
        except (StoppedError, PreemptedError) as stopped:
            stopped.hint = next_command(folder)
            mark(folder, "INTERRUPTED", str(stopped), before=before)
            raise
        except SystemExit:  # of a signal before the first step, which has been answered in words: cli.leave
            mark(folder, "INTERRUPTED", "stopped before the first step", before=before)
            raise
        except KeyboardInterrupt:
            mark(folder, "INTERRUPTED", "stopped immediately, not saved", before=before)
            raise StoppedError("stopped immediately, not saved", hint=next_command(folder)) from None
        except Exception as error:
            if isinstance(error, DataError | ResourceError) and beginning(folder) != before:
                error.hint = with_resume(error.hint, folder)
            mark(folder, "FAILED", str(error), before=before)
            raise
        (folder / "DONE").write_text("", encoding="utf-8")
        return best


def with_resume(hint: str, folder: Path) -> str:
    """A hint, and after it how the run goes on from its checkpoint."""
    if "resume" in hint or not any((folder / "checkpoints").glob("step-*")):
        return hint
    return "\n".join([*hint.splitlines()[:1], f"then {next_command(folder)}"])


def worker(
    config: schema.TrainConfig, folder: Path, overrides: list[str], watch: Watch | None = None
) -> float:
    """One process of a run. The best mIoU."""
    fix_workspace()  # in each process: those of torchrun and SLURM have environments of their own
    return run(config, folder, overrides, StopRequest(), watch)


def run(
    config: schema.TrainConfig,
    folder: Path,
    overrides: list[str],
    stop: StopRequest,
    watch: Watch | None = None,
) -> float:
    """Prepare a run and train it, in one of its processes. The best mIoU. `stop` notes signals from the loop
    on; before it, one ends the process.
    """
    started = time.perf_counter()
    tracker = tracker_of(config) if is_main() else Tracker()
    ready = prepared(config, folder, stop=stop)
    tracked = tracked_run(ready.config, folder, overrides, first_step=ready.state.step)
    if is_main():
        tracker.begin(tracked)
        checkpoints.repair(folder / "checkpoints", ready.state)
        write_run_files(ready.config, folder, overrides, ready.environment)
        write_names(folder, ready.images)
    return trained(ready, folder, tracked=tracked, tracker=tracker, stop=stop, watch=watch, started=started)


def trained(
    ready: Prepared,
    folder: Path,
    *,
    tracked: Run,
    tracker: Tracker,
    stop: StopRequest,
    watch: Watch | None,
    started: float,
) -> float:
    """Train a prepared run to its end. The best mIoU. started: when its process began, by perf_counter."""
    config, state, loading = ready.config, ready.state, ready.loading
    training, validation, device = ready.training, ready.validation, ready.device
    normalization = state.model.backbone.normalization
    untracked = replace(config, tracker=schema.TrackerSettings(name="none"))  # weights do not depend on it
    description = Description(
        untracked, list(training.classes), training.palette, training.ignore_index, normalization, ready.data
    )
    predictor = predictor_of(
        state.evaluated_model,
        config,
        normalization,
        num_classes=len(training.classes),
        device=device,
        precision="fp32",
    )
    batches = batches_of(
        config,
        training,
        normalization,
        device=device,
        first_step=state.step,
        workers=loading.workers,
        shared_memory=loading.shared_memory,
    )
    reader = reader_of(validation, workers=loading.workers, device=device)
    doctor = doctor_of(state, folder, classes=training.classes)
    log = log_of(config, tracked, tracker, doctor)
    saver = Saver(state, folder / "checkpoints", description=description.to_plain(), log=log)
    unreadable: set[str] = set()
    drawing = Background()
    reports = Reports(folder, samples=validation, say=log.say, later=drawing.run)
    evaluations = Evaluations(
        folder=folder,
        config=config,
        state=state,
        samples=validation,
        reader=reader,
        predictor=predictor,
        doctor=doctor,
        log=log,
        stop=stop,
        drawing=drawing,
        reports=reports,
        unreadable=unreadable,
        saver=saver,
        watch=watch,
    )

    with stop, log, closing(batches), closing(reader), drawing:
        opening = opening_words(config, state, training, validation, folder, norm_images=ready.norm_images)
        where = [tracker.where] if tracker.where else []
        for line in [*ready.findings, *opening, *where, *ready.settings]:
            log.say(line)
        log.alarm(
            alarms_at_start(
                doctor,
                config,
                state.model,
                norm_images=ready.norm_images,
                lr_was_found=(folder / FOUND_LR).is_file(),
            )
        )
        if is_main():
            restore_record(folder, state, log)  # killed between an evaluation and its checkpoint
            log.text("config.yaml", (folder / "config.yaml").read_text(encoding="utf-8"))
        if state.step == 0:
            evaluations.draw_untrained()
        fit(
            state,
            noting(batches, unreadable, log, doctor if as_labelled(config) else None),
            stop=stop,
            evaluate=evaluations.run,
            saver=saver,
            log=log,
            eval_every=config.trainer.eval_every or math.ceil(state.max_iters / EVALUATIONS),
            save_every=config.trainer.save_every,
        )
        if is_main():
            write_end(folder, state, log, seconds=time.perf_counter() - started)
            drawing.run(write_curves, folder, log)
            reports.due(finished=True)
            drawing.wait()
        log.closing(loading.workers, cores=loading.cores)
        for line in closing_words(state, folder):
            log.say(line)
    return state.best_miou


def write_end(folder: Path, state: TrainState, log: Log, *, seconds: float) -> None:
    """Write the result of a run that has trained its last step."""
    write_result(folder, state)
    restore_record(folder, state, log)
    write_seconds(folder, seconds, log)
    shutil.rmtree(folder / PREVIOUS, ignore_errors=True)  # no step can need it any more
    log.result(state.best)


def restore_record(folder: Path, state: TrainState, log: Log) -> None:
    """Have the record be that of the best checkpoint: an evaluation may not have been saved."""

    def restore() -> None:
        for line in restore_previous(folder, state.best):
            log.say(line)

    tried(restore, log, "the record of the best evaluation", after="the run does not need it")


def write_seconds(folder: Path, seconds: float, log: Log) -> None:
    tried(lambda: add_seconds(folder, seconds), log, "the seconds of the run", after="its result is complete")


def write_curves(folder: Path, log: Log) -> None:
    tried(lambda: draw_curves(folder), log, "the curves", after="the run is complete without them")


def closing_words(state: TrainState, folder: Path) -> list[str]:
    """The result, the classes that were missed, and the next command."""
    missed = [name for name, iou in state.best["per_class_iou"].items() if iou == 0]
    return [
        f"done: best mIoU {state.best_miou:.4f} at step {state.best['step']}, in {folder}",
        *([f"IoU 0 at that step: {listed(missed)}"] if missed else []),
        *([f"report: {folder / REPORT}"] if (folder / REPORT).is_file() else []),
        next_line(folder, plugins=plugins.as_overrides()),
    ]


def noting(
    batches: Iterable[Batch | None], unreadable: set[str], log: Log, doctor: RunDoctor | None
) -> Iterator[Batch | None]:
    """The batches; what could not be read for them goes into `unreadable`, the time they took into the log,
    and their labels to the doctor.
    """
    for batch in batches:
        if batch is not None:
            unreadable.update(batch.unreadable)
            if doctor is not None:
                doctor.batch(batch.labels.numpy())
            log.loaded(batch.load_time)
        yield batch
