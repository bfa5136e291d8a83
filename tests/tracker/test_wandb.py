"""What W&B's offline files hold. W&B starts a process of its own for each run."""

import json
from pathlib import Path
from typing import Any

import pytest

from deeplabx.tracker.wandb_file import logged, records
from tests.conftest import TrainTiny
from tests.tracker.reruns import SETTINGS, cut_back, near

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def parsed(path: Path) -> list[Any]:
    kind = pytest.importorskip("wandb.proto.wandb_internal_pb2").Record
    return [kind.FromString(content) for content in records(path)]


def values(files: list[Path], name: str) -> list[tuple[int, Any]]:
    return [(line["step"], line[name]) for path in files for line in logged(path) if name in line]


def test_the_files_of_a_run_and_of_the_same_run_resumed_hold_each_step_once(train_tiny: TrainTiny) -> None:
    folder = train_tiny("run", "tracker=wandb", *SETTINGS)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    mious = [(line["step"], line["miou"]) for line in lines if "miou" in line]
    for again in (False, True):
        if again:
            cut_back(folder)
            train_tiny("run", "tracker=wandb", *SETTINGS, "resume=true")
        files = files_of(folder)
        assert len(files) == 1 + again
        assert near(values(files, "train/loss")) == near(losses)
        assert near(values(files, "eval/miou")) == near(mious)
        assert [step for step, _ in values(files, "samples/path")] == [0, 2, 4]
        assert [step for step, _ in values(files, "confusion/path")] == [2, 4]
        every = [record for path in files for record in parsed(path)]
        begun = [record.run for record in every if record.HasField("run")]
        kept = json.loads((folder / "tracker.json").read_text())["wandb"]
        assert {(run.run_id, run.project, run.run_group) for run in begun} == {
            (kept["id"], "deeplabx", folder.parent.name)
        }
        settings = {item.key: json.loads(item.value_json) for item in begun[0].config.update}
        assert settings["optimizer.name"] == "sgd"
        ended = [record.exit.exit_code for record in every if record.HasField("exit")]
        assert ended == [0] * len(files)


def test_online_without_a_key_is_refused_before_the_first_step(deeplabx: Any) -> None:
    ended = deeplabx("train", "tracker=wandb", "tracker.mode=online", "hydra.run.dir=run")
    assert ended.code == 2
    assert ended.err.startswith("deeplabx: tracker.mode=online, but nobody is logged in to W&B\n")
    assert not Path("run").exists()
