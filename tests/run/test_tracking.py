"""A run's tracker: guarded, filled, and never in training's way."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabx import registry
from deeplabx.command import train as train_command
from deeplabx.command import train_evaluations
from deeplabx.config import schema
from deeplabx.errors import ConfigError
from deeplabx.run.tracking import Guarded, logged_values, tracked_run, tracker_of
from deeplabx.tracker.contract import DONE, FAILED, Run, Tracker, in_a_line
from tests.conftest import Deeplabx, TrainTiny, compose_plain
from tests.tracker.reruns import SETTINGS, cut_back


@dataclass
class Noting(Tracker):
    """Notes what it is given. fails: the name of the method that raises an error."""

    name = "noting"
    fails: str = ""
    recorded: Mapping[str, int] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def note(self, *call: Any) -> None:
        if call[0] == self.fails:
            raise RuntimeError("http://me:secret@server is gone\nand more")
        self.calls.append(call)

    def begin(self, run: Run) -> None:
        self.note("begin", run.name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.note("scalars", step, *values)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.note("image", step, name)

    def text(self, name: str, words: str) -> None:
        self.note("text", name)

    def summary(self, values: Mapping[str, float]) -> None:
        self.note("summary", values["best_step"])

    def end(self, status: str) -> None:
        self.note("end", status)


@pytest.fixture
def noting(own_options: None) -> Noting:
    """The tracker of tracker=noting."""
    tracker = Noting()
    registry.register("tracker", "noting", build=lambda: tracker, settings=schema.TrackerSettings, words="")
    return tracker


def steps_of(tracker: Noting, name: str) -> list[int]:
    return [call[1] for call in tracker.calls if call[0] == "scalars" and name in call]


def test_what_a_run_gives_its_tracker_and_a_resumed_one_does_not_repeat(
    noting: Noting, train_tiny: TrainTiny
) -> None:
    folder = train_tiny("run", "tracker=noting", *SETTINGS)
    assert noting.calls[0] == ("begin", f"{folder.parent.name}/run")
    assert steps_of(noting, "train/loss") == [1, 2, 3, 4]
    assert steps_of(noting, "eval/miou") == steps_of(noting, "iou/background") == [2, 4]
    images = [call[1:] for call in noting.calls if call[0] == "image"]
    assert sorted(images) == [
        (0, "samples"),
        (2, "confusion"),
        (2, "samples"),
        (4, "confusion"),
        (4, "samples"),
    ]
    best = json.loads((folder / "result.json").read_text())["step"]
    assert ("summary", best) in noting.calls
    assert noting.calls[-1] == ("end", DONE)
    (path,) = folder.glob("checkpoints/step-00000004/config.json")
    plain = json.loads(path.read_text())
    assert (plain["config"]["tracker"], plain["plugins"]) == ({"name": "none"}, [])
    assert "name: noting" in (folder / "config.yaml").read_text()
    cut_back(folder)
    noting.calls.clear()
    noting.recorded = {"train": 1}  # as if its server had gone after step 1
    train_tiny("run", "tracker=noting", *SETTINGS, "resume=true")
    assert steps_of(noting, "train/loss") == [2, 3, 4]
    assert steps_of(noting, "eval/miou") == [2, 4]


def test_a_tracker_that_fails_costs_a_line_and_no_bit_of_the_weights(
    noting: Noting, train_tiny: TrainTiny, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noting.fails = "scalars"
    folder = train_tiny("run", "tracker=noting")
    said = capsys.readouterr().out
    assert said.count("tracker noting failed") == 1
    assert "step 1: the tracker noting failed, and records nothing more of this run: RuntimeError: " in said
    assert "server is gone and more; training continues" in said
    assert "secret" not in said
    assert (folder / "DONE").is_file()
    name = "checkpoints/step-00000004/model.safetensors"
    assert (folder / name).read_bytes() == (tiny_run / name).read_bytes()


def test_one_that_cannot_begin_is_refused_before_the_run_begins(
    own_options: None, train_tiny: TrainTiny, tmp_path: Path
) -> None:
    class Refusing(Noting):
        def begin(self, run: Run) -> None:
            raise ConfigError("no server")

    registry.register("tracker", "refusing", build=Refusing, settings=schema.TrackerSettings, words="")
    with pytest.raises(ConfigError, match="no server"):
        train_tiny("run", "tracker=refusing")
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {".lock"}


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_named_with_its_extra(
    name: str, deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    ended = deeplabx("train", f"tracker={name}", "hydra.run.dir=run")
    assert ended.code == 2
    assert ended.err == (
        f"deeplabx: this needs the package {name}, which is not installed\n  pip install 'deeplabx[{name}]'\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_address_that_mlflow_has_no_store_for_is_refused(deeplabx: Deeplabx) -> None:
    ended = deeplabx("train", "tracker=mlflow", "tracker.tracking_uri=mlruns", "hydra.run.dir=run")
    assert ended.code == 2
    assert ended.err.startswith("deeplabx: tracker.tracking_uri=mlruns is no address for MLflow 3\n")


def test_the_tracker_may_change_when_a_run_is_resumed(
    noting: Noting, own_run: Path, deeplabx: Deeplabx
) -> None:
    (own_run / "DONE").unlink()
    shutil.rmtree(own_run / "checkpoints" / "step-00000004")
    ended = deeplabx("resume", str(own_run), "tracker=noting")
    assert (ended.code, ended.err) == (0, "")
    assert steps_of(noting, "train/loss") == [1, 2, 3, 4]


def test_without_a_tracker_nothing_is_waited_for() -> None:
    assert type(tracker_of(compose_plain())) is Tracker


def test_what_is_given_after_an_error_is_left_out_and_the_end_does_not_hang(tmp_path: Path) -> None:
    said: list[str] = []
    inner = Noting(fails="image")
    tracker = Guarded(inner, said.append)
    tracker.begin(Run("a", tmp_path))
    tracker.scalars(1, {"train/loss": 1.0})
    tracker.image(1, "samples", np.zeros((2, 2, 3), np.uint8))
    tracker.scalars(2, {"train/loss": 1.0})
    tracker.end(FAILED)
    assert inner.calls == [("begin", "a"), ("scalars", 1, "train/loss")]
    assert len(said) == 1


def test_settings_that_tell_runs_apart_are_those_of_a_list_and_the_overridden(tmp_path: Path) -> None:
    given = ["augment.blur=0.5", "dataset=shapes", "tracker=none", "trainer.workers=0"]
    run = tracked_run(compose_plain(*given), tmp_path / "sweep" / "3", given, first_step=0)
    assert run.name == "sweep/3"
    assert run.group == "sweep"
    assert {"augment.blur", "optimizer.lr", "dataset.name"} <= set(run.matters)
    assert not {"tracker.name", "trainer.workers", "trainer.ema_decay"} & set(run.matters)
    assert not [key for key in run.config if key.startswith("tracker.")]


def test_the_lines_of_metrics_come_with_the_names_of_values(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(logged_values(path)) == []
    lines = [
        {"step": 1, "loss": None, "lr": 0.1},
        {"step": 1, "miou": 0.5, "per_class_iou": {"a": 1, "b": None}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(logged_values(path)) == [(1, {"train/lr": 0.1}), (1, {"eval/miou": 0.5, "iou/a": 1.0})]


def test_an_error_in_a_line_has_no_password() -> None:
    assert in_a_line(RuntimeError("http://a:b@c/d\n e")) == "RuntimeError: http://c/d e"
    assert in_a_line(KeyError()) == "KeyError"
    assert len(in_a_line(RuntimeError("x" * 9999))) < 300


def test_drawings_that_fail_cost_a_line_of_the_log_each(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("no\nfont")

    for module, name in ((train_command, "draw_curves"), (train_evaluations, "confusion_figure")):
        monkeypatch.setattr(module, name, fails)
    folder = train_tiny("run", "trainer.samples=0")
    said = capsys.readouterr().out
    assert (folder / "DONE").is_file()
    assert "the curves could not be written: ValueError: no font; the run is complete without them\n" in said
    assert "the confusion matrix could not be written: ValueError: no font; training continues\n" in said
