import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from deeplabx.command import train, train_evaluations
from deeplabx.command.extend import extend
from deeplabx.command.resume import resume
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.record.record import Record
from deeplabx.engine.saver import Saver
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.run.evaluation import restore_previous
from tests.conftest import TINY, Deeplabx, compose_plain, times


def test_a_damaged_config_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: [")
    with pytest.raises(CheckpointError, match=r"config.yaml cannot be read"):
        resume(tmp_path, change=lambda config: config)


def test_extending_says_what_it_means_and_keeps_the_record(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extend(own_run, max_iters=6, change=lambda config: config)
    said = capsys.readouterr().out
    assert "is at step 4 of 4, with a learning rate of 0.0144" in said  # 0.05 (1 - 3 / 4) ** 0.9
    assert "In a schedule of 6 steps it is 0.0186 there" in said  # 0.05 (1 - 4 / 6) ** 0.9
    lines = [json.loads(line) for line in (own_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert json.loads((own_run / "extensions.json").read_text()) == [{"at_step": 4, "from": 4, "to": 6}]
    assert (own_run / "DONE").is_file()


def test_an_extended_run_that_ended_before_its_first_step_is_resumed_as_extended(
    own_run: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(own_run, tmp_path / "whole")
    extend(whole, max_iters=6, change=lambda config: config)
    (own_run / "environment.json").unlink()
    (own_run / "environment.json").mkdir()
    with pytest.raises(IsADirectoryError):
        extend(own_run, max_iters=6, change=lambda config: config)
    (own_run / "environment.json").rmdir()
    resume(own_run, change=lambda config: config)
    files = [path / "checkpoints" / "step-00000006" / "model.safetensors" for path in (own_run, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_cannot_be_extended_is_refused_and_left_alone(own_run: Path) -> None:
    before = times(own_run)
    with pytest.raises(
        ConfigError, match=r"schedule.max_iters=4 does not extend a run of 4\ngive more than 4"
    ):
        extend(own_run, max_iters=4, change=lambda config: config)
    with pytest.raises(ConfigError, match=r"optimizer.lr was 0.05, now 1"):
        extend(
            own_run,
            max_iters=6,
            change=lambda config: replace(config, optimizer=replace(config.optimizer, lr=1.0)),
        )
    assert times(own_run) == before


def test_a_run_is_not_resumed_through_a_link_that_leads_out(own_run: Path, tmp_path: Path) -> None:
    folder, outside = own_run, tmp_path / "outside"
    outside.write_text("untouched")
    (folder / "train.log").unlink()
    (folder / "train.log").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"train.log is a link that points out"):
        resume(folder, change=lambda config: config)
    (folder / "train.log").unlink()
    (folder / "train.log").symlink_to(folder / "train.log")  # in a circle
    with pytest.raises(CheckpointError, match=r"train.log is a link that points out"):
        resume(folder, change=lambda config: config)
    assert outside.read_text() == "untouched"


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(own_run: Path) -> None:
    (own_run / "DONE").unlink()
    for path in own_run.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(b"damaged")
    before = times(own_run)
    with pytest.raises(CheckpointError, match=r"none of \d checkpoints can be used: .*damaged"):
        resume(own_run, change=lambda config: config)
    assert {path: time for path, time in times(own_run).items() if path.name != "FAILED"} == before


def test_a_result_that_is_none_is_a_checkpoint_error(own_run: Path) -> None:
    (own_run / "result.json").write_text('{"miou": "high"}')
    with pytest.raises(CheckpointError, match=r"result.json holds no mIoU"):
        resume(own_run, change=lambda config: config)


class Killed(BaseException):
    """In place of SIGKILL."""


def test_the_record_is_of_the_best_checkpoint_where_a_better_evaluation_was_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deeplabx: Deeplabx
) -> None:
    mious, save = iter([0.1, 0.9, 0.05]), Saver.save

    def kill_before_the_second(saver: Saver) -> None:
        if saver.state.step == 4:
            raise Killed
        save(saver)

    def evaluated(*arguments: Any, **keywords: Any) -> Metrics:
        return replace(evaluate(*arguments, **keywords), miou=next(mious))

    monkeypatch.setattr(train_evaluations, "evaluate", evaluated)
    settings = [*TINY, "trainer.eval_every=2", "trainer.save_every=2", "trainer.samples=0"]
    with mock.patch.object(Saver, "save", kill_before_the_second), pytest.raises(Killed):
        train.train(compose_plain(*settings), tmp_path, overrides=settings)
    assert Record.read(tmp_path).step == 4
    assert deeplabx("resume", str(tmp_path)).code == 0
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    record = Record.read(tmp_path)
    assert record.step == result["step"] == 2
    confusion = record.counts.confusion()
    assert hashlib.sha256(confusion.tobytes()).hexdigest() == result["confusion_sha256"]
    (tmp_path / "images.npz").write_bytes(b"damaged")
    assert not (tmp_path / ".previous-evaluation").exists()
    words = restore_previous(tmp_path, result)
    assert len(words) == 1
    assert "is not of the best evaluation, step 2" in words[0]
