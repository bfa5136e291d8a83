"""Whole runs on tiny settings."""

import itertools
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from torch import Tensor

from deeplabx.command import train as train_command
from deeplabx.command.extend import extend
from deeplabx.command.resume import resume
from deeplabx.command.train_evaluations import Evaluations
from deeplabx.command.yaml_files import choices
from deeplabx.dataset.class_balance import balanced_weights, count_pixels
from deeplabx.dataset.loader import Batch
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.state import TrainState
from deeplabx.errors import ConfigError, ResourceError, StoppedError
from deeplabx.process.signals import StopRequest
from deeplabx.run.build import batches_of, open_dataset
from tests.conftest import TINY, Deeplabx, Root, TrainTiny, compose_plain, python, signalled_run, times


def weights(folder: Path) -> bytes:
    (path,) = folder.glob("checkpoints/step-00000004/model.safetensors")
    return path.read_bytes()


def test_the_files_of_a_run(tiny_run: Path) -> None:
    files = {path.name for path in tiny_run.iterdir()}
    assert {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "train.log",
        "metrics.jsonl",
        "result.json",
        "DONE",
    } <= files
    assert {"checkpoints", "tensorboard", "plots", "samples"} <= files
    assert {path.name for path in (tiny_run / "checkpoints").glob("*.json")} == {"best.json", "last.json"}
    assert list((tiny_run / "tensorboard").iterdir())
    assert (tiny_run / "samples" / "step-00000000.png").is_file()
    result = json.loads((tiny_run / "result.json").read_text())
    assert {
        "miou",
        "miou_gt_only",
        "pixel_accuracy",
        "per_class_iou",
        "confusion_sha256",
        "images",
        "step",
    } <= set(result)
    assert json.loads((tiny_run / "cost.json").read_text())["seconds"] > 0
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]


def test_two_runs_of_a_seed_and_their_evaluations_give_the_same_results_to_the_byte(
    train_tiny: TrainTiny, tiny_run: Path, tmp_path: Path, deeplabx: Deeplabx
) -> None:
    runs = [tiny_run, train_tiny("again")]
    assert runs[0].joinpath("result.json").read_bytes() == runs[1].joinpath("result.json").read_bytes()
    evaluated = [tmp_path / "first", tmp_path / "second"]
    for run, folder in zip(runs, evaluated, strict=True):
        assert deeplabx("eval", str(run), f"hydra.run.dir={folder}").code == 0
        assert json.loads((folder / "cost.json").read_text(encoding="utf-8"))["seconds"] > 0
    assert (
        evaluated[0].joinpath("result.json").read_bytes() == evaluated[1].joinpath("result.json").read_bytes()
    )


def test_workers_change_no_bit_of_the_weights(train_tiny: TrainTiny, tiny_run: Path) -> None:
    assert weights(train_tiny("two", "trainer.workers=2")) == weights(tiny_run)


def test_a_seed_changes_the_weights(train_tiny: TrainTiny, tiny_run: Path) -> None:
    assert weights(train_tiny("other", "seed=1")) != weights(tiny_run)


def stopped_run(folder: Path, *settings: str) -> str:
    """Train the tiny run in `folder`, asked to stop in its first step; where it was saved."""
    folder.mkdir(exist_ok=True)
    stop, take_step = StopRequest(), TrainState.take_step

    def take_step_and_ask(state: TrainState, left_out: Tensor) -> None:
        take_step(state, left_out)
        stop.number = signal.SIGINT

    with (
        mock.patch.object(TrainState, "take_step", take_step_and_ask),
        pytest.raises(StoppedError) as stopped,
    ):
        train_command.run(compose_plain(*TINY, *settings), folder, list(settings), stop)
    return stopped.value.message


def test_a_run_that_is_interrupted_at_each_step_equals_one_that_was_not(
    train_tiny: TrainTiny, tiny_run: Path, tmp_path: Path
) -> None:
    for step in (1, 2, 3):
        said = stopped_run(tmp_path / "run", "trainer.eval_every=4")
        assert said == f"SIGINT received: saved at step {step}"
    (tmp_path / "run" / "INTERRUPTED").write_text(said)
    folder = train_tiny("run", "resume=true", "trainer.workers=1")
    assert weights(folder) == weights(tiny_run)
    assert (folder / "DONE").is_file()
    assert not (folder / "INTERRUPTED").exists()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer=adamw", "trainer.ema_decay=0.9", "trainer.accumulate=2", "trainer.clip_norm=1.0"],
        [
            "loss=composite",
            "loss.parts=[{name: ohem, anneal_steps: 3, class_balance: enet, keep_priors: true},"
            "{name: lovasz}]",
            "trainer.freeze_stride=4",
            "trainer.freeze_backbone_norm=true",
            "trainer.head_lr_factor=10",
        ],
        ["trainer.swa_start=0.5", "trainer.swa_every=2"],  # of steps 2 and 4: before and after the signal
    ],
)
def test_a_resumed_run_has_every_bit_of_one_that_was_not_interrupted(
    train_tiny: TrainTiny, tmp_path: Path, settings: list[str]
) -> None:
    settings = [*settings, "trainer.eval_every=4", "trainer.samples=0"]
    whole = train_tiny("whole", *settings)
    stopped_run(tmp_path / "run", *settings)
    folder = train_tiny("run", *settings, "resume=true")
    files = [
        {path.name: path.read_bytes() for path in run.glob("checkpoints/step-00000004/*.safetensors")}
        for run in (whole, folder)
    ]
    averaged = any(one.startswith(("trainer.ema", "trainer.swa")) for one in settings)
    assert len(files[0]) == (3 if averaged else 2)
    assert files[0] == files[1]


def evaluated_as(monkeypatch: pytest.MonkeyPatch, mious: list[float]) -> None:
    """Let the evaluation after step n have the n-th of these results."""
    evaluate = Evaluations.run

    def run(evaluations: Evaluations) -> Metrics:
        return replace(evaluate(evaluations), miou=mious[evaluations.state.step - 1])

    monkeypatch.setattr(Evaluations, "run", run)


@pytest.mark.slow
def test_a_run_ends_when_patience_does_and_is_extended_and_resumed_as_it_was(
    train_tiny: TrainTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: Path
) -> None:
    evaluated_as(monkeypatch, [0.2, 0.1, 0.2, 0.15])
    settings = ["trainer.patience=2", "trainer.eval_every=1", "trainer.samples=0"]
    folder = train_tiny("run", *settings)
    assert (folder / "DONE").is_file()
    assert json.loads((folder / "result.json").read_text())["step"] == 1
    words = (
        "ends at step 3 of 4: the last 2 evaluations were not better than that of step 1 (trainer.patience=2)"
    )
    assert words in (folder / "train.log").read_text()
    stopped_run(tmp_path / "stopped", *settings)  # at step 1, which counts after it is resumed
    resumed = train_tiny("stopped", *settings, "resume=true")
    newest = [run / "checkpoints" / "step-00000003" / "model.safetensors" for run in (folder, resumed)]
    assert newest[0].read_bytes() == newest[1].read_bytes()
    before = times(folder)
    assert resume(folder, change=lambda config: config) == 0.2  # finished
    assert times(folder) == before
    (folder / "DONE").unlink()  # killed before it was marked
    (folder / "result.json").unlink()
    assert resume(folder, change=lambda config: config) == 0.2
    assert max(folder.glob("checkpoints/step-*")).name == "step-00000003"
    with pytest.raises(
        ConfigError, match=r"schedule.max_iters=3 does not extend a run of 4\ngive at least 4"
    ):
        extend(folder, max_iters=3, change=lambda config: config)
    extend(folder, max_iters=4, change=lambda config: config)
    assert weights(folder) == weights(tiny_run)
    assert (folder / "train.log").read_text().count("was killed") == 1  # that one, and not the extended one


@pytest.mark.slow
def test_a_killed_process_is_resumed_by_its_folder_alone(tmp_path: Path) -> None:
    settings = [
        *TINY,
        "schedule.max_iters=12",
        "trainer.save_every=1",
        "trainer.samples=0",
        "trainer.eval_every=12",
    ]
    run, whole = tmp_path / "a run (1)", tmp_path / "whole"
    command = [sys.executable, "-m", "deeplabx", "train", *settings, f"hydra.run.dir={run}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (run / "DONE").exists()
    done = python("-m", "deeplabx", "resume", run, cwd=tmp_path)
    assert done.code == 0, done.err
    assert python("-m", "deeplabx", "train", *settings, f"hydra.run.dir={whole}", cwd=tmp_path).code == 0
    files = [folder / "checkpoints" / "step-00000012" / "model.safetensors" for folder in (run, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()
    again = python("-m", "deeplabx", "resume", run, cwd=tmp_path)
    assert again.code == 0
    assert "is finished" in again.out


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow)]
)
def test_a_signal_to_the_whole_group_saves_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    answer = signalled_run(tmp_path, [*TINY, "trainer.workers=2"], number, whole_group=True)
    assert answer.exit_code == code, answer.output
    assert answer.left_over == []
    assert answer.checkpoint_step >= 3
    assert (tmp_path / "run" / "INTERRUPTED").is_file()


def test_each_process_of_a_run_fixes_the_workspace_of_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that torchrun or SLURM started run `worker` alone."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # restored at the end of the test
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    found: list[str | None] = []
    monkeypatch.setattr(
        train_command, "run", lambda *_: found.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
    )
    train_command.worker(compose_plain(), Path(), [])
    assert found == [":4096:8"]


def test_an_error_of_reading_loses_no_step(
    train_tiny: TrainTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = batches_of

    def three(*arguments: Any, **settings: Any) -> Iterator[Batch]:
        with closing(whole(*arguments, **settings)) as batches:
            yield from itertools.islice((batch for batch in batches if batch is not None), 3)
        raise ResourceError("a worker was killed", hint="set fewer trainer.workers")

    settings = ("trainer.save_every=100", "trainer.eval_every=4")
    with monkeypatch.context() as patched:
        patched.setattr(train_command, "batches_of", three)
        with pytest.raises(ResourceError) as raised:
            train_tiny("lost", *settings)
    assert raised.value.hint.startswith("set fewer trainer.workers\nthen deeplabx resume ")
    assert checkpoints.newest(tmp_path / "lost" / "checkpoints")[0].state["step"] == 3  # type: ignore[union-attr]
    train_tiny("lost", *settings, "resume=true")
    train_tiny("kept", *settings)
    assert weights(tmp_path / "lost") == weights(tmp_path / "kept")


def test_samples_that_the_disk_refuses_cost_no_step(
    train_tiny: TrainTiny, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "refused"
    run.mkdir()
    (run / "samples").write_text("not a folder", encoding="utf-8")
    assert train_tiny("refused") == run
    said = capfd.readouterr().out
    assert said.count("the samples could not be written") == said.count("training continues") >= 2
    assert (run / "DONE").is_file()


@pytest.mark.slow
def test_a_run_whose_terminal_closes_is_saved(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", *TINY, "schedule.max_iters=5000", "trainer.samples=0", f"hydra.run.dir={run}"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "deeplabx", *words])
    deadline = time.monotonic() + 120
    log = run / "metrics.jsonl"
    while time.monotonic() < deadline and not (log.is_file() and log.read_text()):
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 75
    assert (run / "INTERRUPTED").read_text().startswith("SIGHUP received: saved at step")
    assert checkpoints.newest(run / "checkpoints")[0] is not None


def test_a_signal_between_the_run_files_and_the_first_step_leaves_its_words(
    train_tiny: TrainTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **settings: object) -> None:
        raise SystemExit(75)  # of cli.leave

    monkeypatch.setattr(train_command, "batches_of", stop)
    with pytest.raises(SystemExit):
        train_tiny("run")
    assert (tmp_path / "run/INTERRUPTED").read_text() == "stopped before the first step\n"


def test_checkpoints_without_resume_are_not_touched(train_tiny: TrainTiny, own_run: Path) -> None:
    before = times(own_run)
    with pytest.raises(ConfigError, match=r"already holds checkpoints\ndeeplabx resume .* .or resume=true."):
        train_tiny(own_run.name)
    assert times(own_run) == before


def test_resuming_with_other_settings_is_an_error(train_tiny: TrainTiny, own_run: Path) -> None:
    (own_run / "DONE").unlink()
    before = times(own_run)
    with pytest.raises(ConfigError, match=r"optimizer.lr was 0.05, now 0.5"):
        train_tiny(own_run.name, "resume=true", "optimizer.lr=0.5")
    assert times(own_run) == before


def test_computed_class_weights_are_those_of_the_run(train_tiny: TrainTiny) -> None:
    settings = ["dataset.train_images=2", "trainer.eval_every=4", "trainer.samples=0"]
    folder = train_tiny("run", *settings, "loss.class_balance=median_frequency")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    samples = open_dataset("shapes", split="train", train_images=2, val_images=1)
    counts = count_pixels(samples, range(2), workers=0)
    assert config["loss"]["class_weights"] == balanced_weights("median_frequency", counts)
    log = (folder / "train.log").read_text()
    assert f"class weights: background {config['loss']['class_weights'][0]:.4g}, disc " in log
    absent = [name for name, pixels in zip(samples.classes, counts[0], strict=True) if not pixels]
    assert absent
    assert f"not in the training labels, and of weight 1: {', '.join(absent)}\n" in log
    (folder / "DONE").unlink()
    with pytest.raises(ConfigError, match=r"loss.class_balance was median_frequency, now enet"):
        train_tiny("run", *settings, "loss.class_balance=enet", "resume=true")


def test_there_must_be_a_weight_for_each_class(train_tiny: TrainTiny, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"loss.class_weights has 2 values, but shapes has 7 classes\ngive one for each class, in this "
        r"order: background,",
    ):
        train_tiny("run", "loss.class_weights=[1,2.5]")
    assert not any((tmp_path / "run").rglob("*.*"))


def test_resume_without_a_checkpoint_starts(train_tiny: TrainTiny, tiny_run: Path) -> None:
    assert weights(train_tiny("run", "resume=true")) == weights(tiny_run)


def test_init_from_takes_what_fits_and_lists_the_rest(train_tiny: TrainTiny, tiny_run: Path) -> None:
    folder = train_tiny("run", f"init_from='{tiny_run}'", "model=deeplabv3")
    log = (folder / "train.log").read_text()
    assert "tensors loaded" in log
    assert "not in the model: " in log
    assert "decoder.*" in log


@pytest.mark.slow
def test_shapes_are_learned_beyond_a_constant_answer(tmp_path: Path) -> None:
    config = compose_plain(
        "schedule.max_iters=60",
        "trainer.batch_size=4",
        "trainer.workers=0",
        "trainer.devices=cpu",
        "trainer.samples=0",
        "dataset.val_images=8",
        "trainer.eval_every=60",
        "trainer.log_every=60",
    )
    constant = 1 / 7
    assert train_command.train(config, tmp_path, overrides=[]) > constant
    found, _ = checkpoints.newest(tmp_path / "checkpoints")
    assert found is not None


@pytest.mark.slow
def test_the_first_run_learns_the_shapes(tmp_path: Path) -> None:
    assert train_command.train(compose_plain("trainer.devices=cpu"), tmp_path, overrides=[]) >= 0.80


def test_unreadable_files_are_passed_over_counted_and_listed(
    train_tiny: TrainTiny, fake_root: Root, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(fake_root("folder"), data)
    broken = [sorted((data / "images" / split).iterdir())[0] for split in ("train", "val")]
    for path in broken:
        path.write_bytes(b"no image")
    settings = ["dataset=folder", f"dataset.root='{data}'"]
    config = compose_plain(
        *(one for one in TINY if not one.startswith("dataset.")), *settings, "dataset.on_bad=skip"
    )
    folder = tmp_path / "skipped"
    folder.mkdir()
    train_command.train(config, folder, overrides=[])
    listed = (folder / "unreadable.txt").read_text().splitlines()
    assert sorted(line.partition(":")[0] for line in listed) == sorted(map(str, broken))
    assert "unreadable files, the first" in (folder / "train.log").read_text()
    result = json.loads((folder / "result.json").read_text())
    assert result["images"] == 3
    assert len(result["unreadable"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize("backbone", choices("backbone"))
def test_every_model_on_every_backbone_takes_a_step_and_is_evaluated(
    train_tiny: TrainTiny, model: str, backbone: str
) -> None:
    if backbone == "timm":
        pytest.importorskip("timm")
    named = ["backbone.model=resnet18d"] if backbone == "timm" else []
    folder = train_tiny(
        "run",
        f"model={model}",
        f"backbone={backbone}",
        *named,
        "schedule.max_iters=1",
        "dataset.val_images=1",
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (loss,) = [line["loss"] for line in lines if "loss" in line]
    assert 0 < loss < 100
    assert json.loads((folder / "result.json").read_text())["images"] == 1
