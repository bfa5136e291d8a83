"""deeplabx extend: a run is trained for more steps than it was planned for."""

from dataclasses import replace
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.command.stages import in_last_stage
from deeplabx.command.train import train
from deeplabx.config import schema
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.lock import locked
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.run.build import dataset_of, schedule_of
from deeplabx.run.changed_data import found_data, recorded
from deeplabx.run.description import Change
from deeplabx.run.folder import (
    EXTENSIONS,
    config_of,
    extensions_of,
    overrides_of,
    refuse_changed,
    refuse_links_out,
    write_config,
    write_extensions,
)
from deeplabx.run.paths import refuse_moved, with_absolute_paths


def main(job: Job) -> float:
    max_iters = int(job.config.schedule.max_iters)

    def work(folder: Path) -> float:
        return extend(folder, max_iters=max_iters, change=lambda config: job.changed(config, training=True))

    return in_last_stage(job.folder, work)


def extend(folder: Path, *, max_iters: int, change: Change) -> float:
    """Train the run in `folder` up to `max_iters`, and say what that means for its learning rate."""
    refuse_links_out(folder)
    before = config_of(folder)
    found, _ = checkpoints.newest(folder / "checkpoints")
    if found is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint to continue from",
            hint="train it first, with the schedule.max_iters you want",
        )
    step, planned = int(found.state["step"]), before.schedule.max_iters
    stopped_early = (folder / "DONE").is_file() and step < planned
    if max_iters < planned or (max_iters == planned and not stopped_early):
        raise ConfigError(
            f"schedule.max_iters={max_iters} does not extend a run of {planned}",
            hint=f"give at least {planned}" if stopped_early else f"give more than {planned}",
        )
    after = change(before)
    after = replace(after, schedule=replace(after.schedule, max_iters=max_iters), resume=True)
    record = [*extensions_of(folder), {"at_step": step, "from": planned, "to": max_iters}]
    refuse_changed(after, found, record)
    refuse_moved(
        after.dataset,
        stored=before.dataset,
        source=folder / "config.yaml",
        command=f"deeplabx extend {folder} schedule.max_iters={max_iters}",
    )
    refuse_changed_data(after, found, folder)
    with locked(folder):
        write_extensions(folder, record)
        write_config(folder, with_absolute_paths(replace(after, accept_changed_images=False)))
        (folder / "DONE").unlink(missing_ok=True)
    if max_iters == planned:
        print(
            f"{folder} ended at step {step} of {planned}, for trainer.patience={before.trainer.patience}. "
            "Evaluations without a better mIoU are counted from 0 again."
        )
        return train(after, folder, overrides=overrides_of(folder))
    old, new = schedule_of(before.schedule), schedule_of(replace(before.schedule, max_iters=max_iters))
    lr = after.optimizer.lr
    ended, there = lr * old(min(step, planned - 1)), lr * new(step)
    rises = ": it rises, and decays again" if there > ended else ""
    print(
        f"{folder} is at step {step} of {planned}, with a learning rate of {ended:.3g}.\n"
        f"In a schedule of {max_iters} steps it is {there:.3g} there{rises}. "
        f"The weights will not be those of a run of\n{max_iters} steps from the start; {EXTENSIONS} in the "
        f"run's folder records it. For those, train a new run with schedule.max_iters={max_iters}."
    )
    return train(after, folder, overrides=overrides_of(folder))


def refuse_changed_data(config: schema.TrainConfig, found: checkpoints.Checkpoint, folder: Path) -> None:
    """Raise DataError for another data set than the run's, before anything in its folder is changed."""
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    validation = dataset_of(config.dataset, split=config.dataset.split)
    now = found_data(training, validation, root=config.dataset.root)
    recorded(now, found, folder, accept=config.accept_changed_images)
