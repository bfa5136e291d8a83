"""trainer.find_lr: a learning rate from a range test, before the first step."""

import copy
import json
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deeplabx.backbone.normalization import Normalization
from deeplabx.config import schema
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import durable
from deeplabx.engine.lr_range import LARGEST, SMALLEST, Measured, RangeTest, range_test
from deeplabx.engine.noise import seeded
from deeplabx.errors import DivergedError
from deeplabx.model.contract import DeepLab
from deeplabx.process.distributed import broadcast, is_main
from deeplabx.process.signals import StopRequest, stopped
from deeplabx.report.lr_range_plot import draw_lr_range
from deeplabx.run.build import batches_of, state_of
from deeplabx.run.description import Description
from deeplabx.run.loading import Loading

FOUND_LR = "find_lr.json"
ROWS = 9  # of the table in the log


def with_found_lr(
    config: schema.TrainConfig,
    model: DeepLab,
    training: ReadableSet,
    stored: Description | None,
    folder: Path,
    *,
    loading: Loading,
    device: torch.device,
    stop: StopRequest,
) -> tuple[schema.TrainConfig, list[str]]:
    """`config` with the learning rate that a range test finds, as it is then stored, and lines for the log.
    Nothing of the test stays: the training is the one that optimizer.lr=FOUND gives.

    model: as the training starts from; the test trains a copy. stored: what the run's checkpoint says, read
    by the main process; a resumed run has its learning rate from there. Writes find_lr.json and
    plots/find_lr.png. Raises DivergedError where no learning rate lowers the loss, PreemptedError or
    StoppedError for a signal.
    """
    trainer = config.trainer
    if not trainer.find_lr:
        return config, []
    lr = broadcast(None if stored is None else stored.config.optimizer.lr)
    words = [] if lr is None else [f"trainer.find_lr: the run already has its learning rate, {lr:g}"]
    if lr is None:
        test = searched(config, model, training, loading=loading, device=device, stop=stop)
        if is_main():
            write(test, folder)
        lr, words = test.lr, words_of(test, folder)
        if lr is None:
            raise DivergedError(
                f"trainer.find_lr: no learning rate from {SMALLEST:g} to {LARGEST:g} lowers the loss in "
                f"{len(test.steps)} steps",
                hint=f"{folder / FOUND_LR} has the losses; set optimizer.lr instead",
            )
    found = replace(config.optimizer, lr=lr)
    return replace(config, optimizer=found, trainer=replace(trainer, find_lr=False)), words


def searched(
    config: schema.TrainConfig,
    model: DeepLab,
    training: ReadableSet,
    *,
    loading: Loading,
    device: torch.device,
    stop: StopRequest,
) -> RangeTest:
    """A range test of a copy of the model, on the batches that the first steps of the run have."""
    steps = config.trainer.find_lr_steps
    trial = replace(
        config,
        optimizer=replace(config.optimizer, lr=1.0),
        schedule=replace(config.schedule, max_iters=steps, warmup_iters=0),
        trainer=replace(config.trainer, on_nonfinite="skip"),
    )
    normalization: Normalization = model.backbone.normalization
    with seeded(config.seed, device):  # the training draws the numbers that it would draw without the test
        state = state_of(trial, copy.deepcopy(model), ignore_index=training.ignore_index, device=device)
        batches = batches_of(
            trial,
            training,
            normalization,
            device=device,
            first_step=0,
            workers=loading.workers,
            shared_memory=loading.shared_memory,
        )
        with stop, closing(batches):
            test, asked = range_test(state, batches, steps=steps, stop=stop)
    if test is None:
        name = signal.Signals(asked or signal.SIGTERM).name
        raise stopped(asked or signal.SIGTERM, f"{name} received during trainer.find_lr: nothing was trained")
    return broadcast(test)


def words_of(test: RangeTest, folder: Path) -> list[str]:
    """The result, and a small table of the losses."""
    if test.lr is None or test.steepest is None:
        return []
    ended = (
        f"diverged at {test.diverged_at:.3g}"
        if test.diverged_at
        else f"did not diverge up to {test.steps[-1].lr:.3g}"
    )
    return [
        f"trainer.find_lr: found optimizer.lr={test.lr:g} in {len(test.steps)} steps; the loss fell fastest "
        f"at {test.steepest:.3g} and {ended}; plot: {folder / 'plots' / 'find_lr.png'}",
        *(
            f"  learning rate {one.lr:8.2g}  running mean of the loss {one.smooth:8.4f}"
            for one in rows(test.steps)
        ),
    ]


def rows(steps: list[Measured]) -> list[Measured]:
    """Some of the steps, evenly spread, the last among them."""
    count = min(ROWS, len(steps))
    return [steps[round(index * (len(steps) - 1) / max(1, count - 1))] for index in range(count)]


def write(test: RangeTest, folder: Path) -> None:
    """find_lr.json and plots/find_lr.png in the run's folder."""
    plain: dict[str, Any] = {
        "lr": test.lr,
        "steepest": test.steepest,
        "diverged_at": test.diverged_at,
        "steps": [{"lr": one.lr, "loss": one.loss, "running_mean": one.smooth} for one in test.steps],
    }
    durable.replace(folder / FOUND_LR, json.dumps(plain, indent=2) + "\n")
    if test.lr is not None:
        draw_lr_range(
            folder,
            rates=[one.lr for one in test.steps],
            losses=[one.loss for one in test.steps],
            means=[one.smooth for one in test.steps],
            found=test.lr,
        )
