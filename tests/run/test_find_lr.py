"""trainer.find_lr: what it leaves is a learning rate, and nothing else."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from deeplabx.engine.lr_range import concluded
from deeplabx.errors import ConfigError, DivergedError, PreemptedError
from deeplabx.process.signals import StopRequest
from deeplabx.run import find_lr
from tests.conftest import Compose, TrainTiny

SEARCH = ["trainer.find_lr=true", "trainer.find_lr_steps=50", "schedule.max_iters=2"]


def stored(folder: Path) -> Any:
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def weights(folder: Path) -> dict[str, bytes]:
    newest = max((folder / "checkpoints").glob("step-*"))
    return {path.name: path.read_bytes() for path in sorted(newest.glob("*.safetensors"))}


@pytest.mark.slow
def test_the_training_is_that_of_the_found_learning_rate(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["trainer.accumulate=2", "trainer.freeze_stride=4", "model.norm=frozen", "augment.mix=cutmix"]
    found = train_tiny("found", *SEARCH, *options)
    lr = stored(found)["optimizer"]["lr"]
    assert stored(found)["trainer"]["find_lr"] is False
    table = json.loads((found / "find_lr.json").read_text(encoding="utf-8"))
    assert table["lr"] == lr
    assert concluded([row["loss"] for row in table["steps"]], steps=20).steepest == table["steepest"]
    assert (found / "plots" / "find_lr.png").stat().st_size > 1000
    log = (found / "train.log").read_text(encoding="utf-8")
    assert f"trainer.find_lr: optimizer.lr={lr:g} after " in log
    assert log.count("  learning rate ") == 9
    given = train_tiny("given", "schedule.max_iters=2", *options, f"optimizer.lr={lr}")
    assert weights(found) == weights(given)
    assert not (given / "find_lr.json").exists()

    def searched(*_: Any, **__: Any) -> Any:
        raise AssertionError("searched again")

    monkeypatch.setattr(find_lr, "searched", searched)
    (found / "DONE").unlink()
    train_tiny("found", *SEARCH, *options, "resume=true")  # as the same command line continues it
    assert weights(found) == weights(given)


def test_a_signal_during_the_test_ends_the_run(
    train_tiny: TrainTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = StopRequest.__enter__

    def signalled(self: StopRequest) -> StopRequest:
        enter(self)
        signal.raise_signal(signal.SIGTERM)
        return self

    monkeypatch.setattr(StopRequest, "__enter__", signalled)
    with pytest.raises(PreemptedError, match="SIGTERM received during trainer.find_lr: nothing was trained"):
        train_tiny("stopped", *SEARCH)
    assert not (tmp_path / "stopped" / "config.yaml").exists()
    assert not (tmp_path / "stopped" / "find_lr.json").exists()


def test_a_loss_that_no_learning_rate_lowers_ends_the_run(
    train_tiny: TrainTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_lr, "range_test", lambda *_, **__: (concluded([1.0] * 20, steps=20), None))
    with pytest.raises(DivergedError, match="no learning rate from 1e-06 to 10 lowers the loss in 20 steps"):
        train_tiny("flat", *SEARCH)
    assert (tmp_path / "flat" / "find_lr.json").is_file()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("trainer.scale_lr=sqrt", "trainer.find_lr=true and trainer.scale_lr=sqrt: set only one of them"),
        (
            "optimizer=torch optimizer.algorithm=Rprop optimizer.weight_decay=0 schedule=constant",
            "Rprop uses optimizer.lr in its first step only",
        ),
        ("trainer.find_lr_steps=3", "trainer.find_lr_steps=3 is out of range"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(compose: Compose, overrides: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose("trainer.find_lr=true", *overrides.split())


@pytest.mark.slow
def test_several_processes_find_one_learning_rate(train_tiny: TrainTiny) -> None:
    found = train_tiny("found", *SEARCH, "trainer.devices=2", "trainer.backend=gloo", "model.norm=batch")
    lr = stored(found)["optimizer"]["lr"]
    given = train_tiny(
        "given",
        "schedule.max_iters=2",
        f"optimizer.lr={lr}",
        "trainer.devices=2",
        "trainer.backend=gloo",
        "model.norm=batch",
    )
    assert weights(found) == weights(given)
