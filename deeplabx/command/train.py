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
from deeplabx.config import schema
from deeplabx.dataset.check.headers import check_headers
from deeplabx.dataset.check.no_valid_pixel import refuse_no_valid_pixel
from deeplabx.dataset.check.same_classes import refuse_different_classes
from deeplabx.dataset.check.single_class import refuse_single_class
from deeplabx.dataset.loader import Batch
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.doctor import RunDoctor
from deeplabx.engine.kernels import fix_workspace
from deeplabx.engine.lock import locked
from deeplabx.engine.log import Log
from deeplabx.engine.noise import seeded
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
    broadcast,
    is_main,
    resolve_device,
    synchronize_norm,
)
from deeplabx.process.launch import launch, restarts
from deeplabx.process.signals import StopRequest
from deeplabx.report.background import Background
from deeplabx.report.curves import draw_curves
from deeplabx.report.next_commands import evaluate_words, next_line, resume_sweep_words
from deeplabx.report.sweep_jobs import SUMMARY
from deeplabx.run import plugins
from deeplabx.run.build import (
    batches_of,
    dataset_of,
    freeze,
    log_of,
    model_of,
    normalization_of,
    predictor_of,
    refuse_augment,
    state_of,
)
from deeplabx.run.changed_data import found_data, recorded, refuse_other_copy, write_names
from deeplabx.run.class_weights import with_class_weights
from deeplabx.run.description import Description
from deeplabx.run.effective_batch import norm_words, with_scaled_lr
from deeplabx.run.environment import changed_words, environment_of
from deeplabx.run.evaluation import PREVIOUS, add_seconds, restore_previous
from deeplabx.run.find_lr import with_found_lr
from deeplabx.run.folder import (
    beginning,
    extensions_of,
    killed_words,
    mark,
    next_command,
    refuse_changed,
    refuse_or_find_finished,
    write_result,
    write_run_files,
)
from deeplabx.run.initial_weights import InitialWeights, load_initial_weights
from deeplabx.run.loading import loading_of, reader_of
from deeplabx.run.opening import opening_words
from deeplabx.run.paths import with_absolute_paths
from deeplabx.run.report import REPORT, Reports
from deeplabx.run.resolve import images_per_norm, resolved
from deeplabx.run.tracking import tracked_run, tracker_of
from deeplabx.run.unfolding import unfold
from deeplabx.run.watching import alarms_at_start, as_labelled, doctor_of
from deeplabx.tracker.contract import Tracker

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
    """Data, model, state, loop. `stop` notes signals from the loop on; before it, one ends the process."""
    started = time.perf_counter()
    tracker = tracker_of(config) if is_main() else Tracker()
    device = resolve_device(config.trainer.devices)
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    validation = dataset_of(config.dataset, split=config.dataset.split)
    refuse_different_classes(training, validation)
    skipped = [words for one in (training, validation) for words in check_headers(one)] if is_main() else []
    config = resolved(config, images=len(training), device=device)
    config, scaled = with_scaled_lr(config)
    # The main process reads for all: the others may be on machines that do not have the run's folder. A run's
    # own newest valid checkpoint comes first, then init_from, then backbone.weights.
    found, complaints = checkpoints.newest(folder / "checkpoints") if is_main() else (None, [])
    stored = Description.of(found) if found else None
    killed = killed_words(folder, found) if is_main() and not restarts() else []
    now = found_data(training, validation, root=config.dataset.root)
    data, changes = recorded(now, found, folder, accept=config.accept_changed_images)
    refuse_other_copy(now, broadcast(data))
    refuse_single_class(training)
    refuse_no_valid_pixel(validation)

    with seeded(config.seed):
        model = model_of(config, num_classes=len(training.classes), in_channels=training.channels)
    initial = InitialWeights([])
    if is_main() and not found:
        initial = load_initial_weights(config, model, classes=training.classes)
    of_weights = broadcast(stored.normalization if stored else initial.normalization)
    model.backbone.normalization = normalization_of(model, training, of_weights)
    refuse_augment(config, training, model.backbone.normalization)
    loading = loading_of(config, training, device=device)
    config, absent = with_class_weights(config, training, stored, workers=loading.workers)
    config = with_absolute_paths(replace(config, accept_changed_images=False))  # as it is stored

    unfolded = unfold(config, model, training, device=device) if is_main() and not found else []
    synchronized = synchronize_norm(model, norm=config.model.norm, device=device)
    freeze(config.trainer, model)
    norm_images = images_per_norm(config, synchronized=synchronized)
    config, searched = with_found_lr(
        config, model, training, stored, folder, loading=loading, device=device, stop=stop
    )
    state = state_of(config, model, ignore_index=training.ignore_index, device=device)
    if found:
        refuse_changed(config, found, extensions_of(folder))
    checkpoints.restore(state, found)
    count_anew(state, broadcast(extensions_of(folder) if is_main() else []))
    tracked = tracked_run(config, folder, overrides, first_step=state.step)
    moved: list[str] = []
    if is_main():
        tracker.begin(tracked)
        environment = environment_of(config, device, workers=loading.workers)
        moved = changed_words(folder, environment) if found else []
        checkpoints.repair(folder / "checkpoints", state)
        write_run_files(config, folder, overrides, environment)
        write_names(folder, now)

    normalization = model.backbone.normalization
    untracked = replace(config, tracker=schema.TrackerSettings(name="none"))  # weights do not depend on it
    description = Description(
        untracked, list(training.classes), training.palette, training.ignore_index, normalization, data
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
        opening = opening_words(config, state, training, validation, folder, norm_images=norm_images)
        before = [*complaints, *killed, *moved, *changes, *initial.words, *unfolded]
        opening += [*scaled, *searched, *norm_words(config, model, norm_images=norm_images)]
        where = [tracker.where] if tracker.where else []
        for line in [*before, *opening, *where, *absent, *skipped, *loading.words]:
            log.say(line)
        log.alarm(alarms_at_start(doctor, config, model, norm_images=norm_images))
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
            write_result(folder, state)
            restore_record(folder, state, log)
            write_seconds(folder, time.perf_counter() - started, log)
            shutil.rmtree(folder / PREVIOUS, ignore_errors=True)  # no step can need it any more
            log.result(state.best)
            drawing.run(write_curves, folder, log)
            reports.due(finished=True)
            drawing.wait()
        log.closing(loading.workers, cores=loading.cores)
        for line in closing_words(state, folder):
            log.say(line)
    return state.best_miou


def count_anew(state: TrainState, extensions: list[dict[str, int]]) -> None:
    """Let a run that was extended at this step have its whole patience again."""
    if extensions and extensions[-1]["at_step"] == state.step:
        state.without_better = 0


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
