"""Runs that are interrupted, whose losses are nothing or not finite, and that are long."""

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplabx.command import train as train_command
from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.fake import write_fake
from deeplabx.dataset.fake_folder import CLASSES as FOLDER_CLASSES
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.writing import write_ids
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.state import TrainState
from tests.conftest import TINY, Deeplabx, Ended

QUICK = [
    *(setting for setting in TINY if not setting.startswith("dataset.")),
    "model=deeplabv3",
    "augment.crop_size=17",
    "trainer.batch_size=2",
    "trainer.samples=0",
    "trainer.eval_every=100000",  # besides the one at the end
]
SHAPES = ["dataset.train_images=12", "dataset.val_images=1"]
Train = Callable[..., Ended]


@pytest.fixture
def train(deeplabx: Deeplabx, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train(name, settings...)` runs `deeplabx train` in the folder `name`."""
    monkeypatch.setattr(train_command, "draw_curves", lambda folder: None)  # takes longer than a few steps
    return lambda name, *settings: deeplabx("train", *QUICK, *settings, f"hydra.run.dir={name}")


def before_step(monkeypatch: pytest.MonkeyPatch, look: Callable[[TrainState], None]) -> None:
    """Call `look` with the state before each update."""
    update = TrainState.update

    def looked_at(state: TrainState, *batch: torch.Tensor, **settings: Any) -> Any:
        look(state)
        return update(state, *batch, **settings)

    monkeypatch.setattr(TrainState, "update", looked_at)


def logged(run: Path, name: str) -> dict[int, Any]:
    """A value of metrics.jsonl by step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line[name]) for line in lines if name in line]
    assert len(dict(found)) == len(found)
    return dict(found)


def weights(run: Path) -> bytes:
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None
    return (found.path / "model.safetensors").read_bytes()


# --- interruptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "interruptions"),
    [
        (12, {4: "stop", 9: "crash"}),
        pytest.param(100, {17: "stop", 38: "crash", 61: "stop", 83: "crash"}, marks=pytest.mark.slow),
    ],
)
def test_the_learning_rate_of_each_step_is_the_formulas_however_often_a_run_is_resumed(
    steps: int,
    interruptions: dict[int, str],
    train: Train,
    deeplabx: Deeplabx,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = dict(interruptions)

    def interrupt(state: TrainState) -> None:
        how = left.pop(state.step + 1, "")
        if how == "stop":
            os.kill(os.getpid(), signal.SIGTERM)  # saved after this step
        if how == "crash":
            raise RuntimeError("crashed")  # the steps since the last save are repeated

    before_step(monkeypatch, interrupt)
    codes = [train("run", "trainer.save_every=5", f"schedule.max_iters={steps}", *SHAPES).code]
    codes += [deeplabx("resume", "run").code for _ in interruptions]
    assert codes == [{"stop": 75, "crash": 1}[how] for how in interruptions.values()] + [0]
    formula = {step: round(0.05 * (1 - (step - 1) / steps) ** 0.9, 8) for step in range(1, steps + 1)}
    assert logged(tmp_path / "run", "lr") == formula


# --- losses that are nothing or not finite ------------------------------------------------------------------


@pytest.mark.parametrize("steps", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_a_batch_without_a_labelled_pixel_has_loss_zero_and_is_logged(
    steps: int, train: Train, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    write_fake("folder", data, images=4, seed=0)
    void = np.full((120, 160), IGNORE_INDEX, np.uint8)
    for path in sorted((data / "masks/train").iterdir())[1:]:  # one image of four is labelled, a batch is two
        write_ids(path, void, voc_palette(len(FOLDER_CLASSES)))
    ended = train("run", "dataset=folder", "dataset.root=data", f"schedule.max_iters={steps}")
    assert ended.code == 0
    losses = logged(tmp_path / "run", "loss")
    assert len(losses) == steps
    void_steps = [step for step, loss in losses.items() if loss == 0]
    assert len(void_steps) == steps // 2
    for step in losses:
        assert (f"step {step}: the batch has no labelled pixels" in ended.out) == (step in void_steps)


def assert_diverged(ended: Ended, run: Path) -> None:
    """It ended with exit code 7, and every tensor of the newest checkpoint is finite."""
    assert ended.code == 7
    assert 0 < len(ended.err.splitlines()) <= 3
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None
    for tensors in (found.model_tensors(), found.optimizer_tensors()):
        assert tensors
        assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.mark.parametrize("lr", ["1e30", pytest.param("1e6", marks=pytest.mark.slow)])
def test_a_run_that_diverges_leaves_a_healthy_checkpoint(lr: str, train: Train, tmp_path: Path) -> None:
    ended = train("run", *SHAPES, "schedule.max_iters=200", "trainer.save_every=1", f"optimizer.lr={lr}")
    assert_diverged(ended, tmp_path / "run")


def poison(monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    """Let the images of one step be NaN: loss, gradient and what batch norm sees."""
    forward_loss = TrainState.forward_loss

    def poisoned(state: TrainState, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        normalization = state.normalization
        if state.step + 1 == step:
            state.normalization = lambda images: normalization(images) * math.nan  # type: ignore[assignment]
        loss = forward_loss(state, images, labels)
        state.normalization = normalization
        return loss

    monkeypatch.setattr(TrainState, "forward_loss", poisoned)


def test_a_run_that_met_nan_is_resumed_to_the_weights_of_one_that_did_not(
    train: Train, deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*SHAPES, "schedule.max_iters=6", "trainer.save_every=2"]
    with monkeypatch.context() as patch:
        poison(patch, step=5)
        ended = train("run", *settings)
    assert_diverged(ended, tmp_path / "run")
    assert deeplabx("resume", "run").code == 0
    assert train("sound", *settings).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "sound")


def test_a_step_that_met_nan_is_skipped_where_that_is_asked_for(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, step=2)
    ended = train("run", *SHAPES, "schedule.max_iters=3", "trainer.on_nonfinite=skip")
    assert ended.code == 0
    assert "step 2: loss or gradient was not finite (nan); step skipped" in ended.out
    first, second, third = logged(tmp_path / "run", "loss").values()
    assert second is None
    assert math.isfinite(first)
    assert math.isfinite(third)


# --- long runs ----------------------------------------------------------------------------------------------


@pytest.mark.slow  # tests/command/test_train.py holds the short form
def test_workers_change_no_bit_of_the_weights_in_several_epochs(train: Train, tmp_path: Path) -> None:
    for workers in range(3):
        settings = ["schedule.max_iters=30", f"trainer.workers={workers}"]
        assert train(f"workers_{workers}", *SHAPES, *settings).code == 0
    assert len({weights(tmp_path / f"workers_{workers}") for workers in range(3)}) == 1


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc")


def watched_run(train: Train, monkeypatch: pytest.MonkeyPatch, *settings: str) -> tuple[list[int], list[int]]:
    """Train with a worker; this process's file descriptors and resident KB before each step."""
    descriptors, resident = [], []

    def look(state: TrainState) -> None:
        descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - pathlib holds one more
        status = Path("/proc/self/status").read_text().splitlines()
        resident.append(next(int(line.split()[1]) for line in status if line.startswith("VmRSS")))

    before_step(monkeypatch, look)
    assert train("run", *SHAPES, "trainer.workers=1", *settings).code == 0
    return descriptors, resident


def assert_constant(descriptors: list[int]) -> None:
    """Single values are larger: a batch on its way from a worker holds descriptors."""
    half = len(descriptors) // 2
    assert min(descriptors[half:]) <= min(descriptors[:half]), descriptors


@pytest.mark.slow
@needs_proc
def test_the_number_of_file_descriptors_does_not_grow(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors, _ = watched_run(train, monkeypatch, "schedule.max_iters=60", "trainer.save_every=20")
    assert_constant(descriptors)


@needs_proc
@pytest.mark.slow
def test_the_memory_of_a_run_of_2000_steps_does_not_grow(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = ["trainer.save_every=100", "trainer.eval_every=500", "trainer.log_every=10"]
    descriptors, resident = watched_run(train, monkeypatch, "schedule.max_iters=2000", *often)
    assert_constant(descriptors)
    slope, _ = np.polyfit(range(1000), resident[1000:], 1)
    assert slope * 1000 < 1024  # KB in 1,000 steps
