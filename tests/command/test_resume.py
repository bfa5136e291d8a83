import json
from dataclasses import replace
from pathlib import Path

import pytest

from deeplabx.command import train as train_command
from deeplabx.command.extend import extend
from deeplabx.command.resume import resume
from deeplabx.errors import CheckpointError, ConfigError, StoppedError
from tests.conftest import TrainTiny, times


def test_a_damaged_config_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: [")
    with pytest.raises(CheckpointError, match=r"config.yaml cannot be read"):
        resume(tmp_path, change=lambda config: config)


def test_extending_says_what_it_means_and_keeps_the_record(
    train_tiny: TrainTiny, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_tiny("run")
    extend(folder, max_iters=6, change=lambda config: config)
    said = capsys.readouterr().out
    assert "stands at step 4 of 4, with a learning rate of 0.0144" in said  # 0.05 (1 - 3 / 4) ** 0.9
    assert "In a schedule of 6 it is 0.0186 there" in said  # 0.05 (1 - 4 / 6) ** 0.9
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert json.loads((folder / "extensions.json").read_text()) == [{"at_step": 4, "from": 4, "to": 6}]
    assert (folder / "DONE").is_file()


def test_an_extended_run_that_was_interrupted_at_once_is_resumed_as_extended(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train_tiny("run")
    whole = train_tiny("whole")
    extend(whole, max_iters=6, change=lambda config: config)
    run = train_command.run
    monkeypatch.setattr(train_command, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(StoppedError):
        extend(folder, max_iters=6, change=lambda config: config)
    monkeypatch.setattr(train_command, "run", run)
    resume(folder, change=lambda config: config)
    files = [path / "checkpoints" / "step-00000006" / "model.safetensors" for path in (folder, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_extended_is_refused_and_left_alone(train_tiny: TrainTiny, tmp_path: Path) -> None:
    folder = train_tiny("run")
    before = times(folder)
    with pytest.raises(
        ConfigError, match=r"schedule.max_iters=4 does not extend a run of 4\ntype more than 4"
    ):
        extend(folder, max_iters=4, change=lambda config: config)
    with pytest.raises(ConfigError, match=r"optimizer.lr was 0.05, now 1"):
        extend(
            folder,
            max_iters=6,
            change=lambda config: replace(config, optimizer=replace(config.optimizer, lr=1.0)),
        )
    assert times(folder) == before


def test_a_run_is_not_resumed_through_a_link_that_leads_out(train_tiny: TrainTiny, tmp_path: Path) -> None:
    folder, outside = train_tiny("run"), tmp_path / "outside"
    outside.write_text("untouched")
    (folder / "train.log").unlink()
    (folder / "train.log").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"train.log is a link that leads out"):
        resume(folder, change=lambda config: config)
    (folder / "train.log").unlink()
    (folder / "train.log").symlink_to(folder / "train.log")  # in a circle
    with pytest.raises(CheckpointError, match=r"train.log is a link that leads out"):
        resume(folder, change=lambda config: config)
    assert outside.read_text() == "untouched"


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(train_tiny: TrainTiny) -> None:
    folder = train_tiny("run")
    (folder / "DONE").unlink()
    for path in folder.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(b"damaged")
    before = times(folder)
    with pytest.raises(CheckpointError, match=r"none of \d checkpoints can be used: .*damaged"):
        resume(folder, change=lambda config: config)
    assert {path: time for path, time in times(folder).items() if path.name != "FAILED"} == before


def test_a_result_that_is_none_is_a_checkpoint_error(train_tiny: TrainTiny) -> None:
    folder = train_tiny("run")
    (folder / "result.json").write_text('{"miou": "high"}')
    with pytest.raises(CheckpointError, match=r"result.json holds no mIoU"):
        resume(folder, change=lambda config: config)
