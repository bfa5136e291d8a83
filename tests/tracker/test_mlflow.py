"""What MLflow's own client reads back. It takes seconds to import, and as many to make its tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TrainTiny
from tests.tracker.reruns import SETTINGS, cut_back, near

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return pytest.importorskip("mlflow")


def client_of(mlflow: Any, folder: Path) -> tuple[Any, str]:
    kept = json.loads((folder / "tracker.json").read_text())["mlflow"]
    return mlflow.MlflowClient(tracking_uri=kept["tracking_uri"]), kept["run_id"]


def history(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in client.get_metric_history(run_id, name)]


def test_a_run_and_the_same_run_resumed_are_one_record_without_doubled_steps(
    mlflow: Any, train_tiny: TrainTiny
) -> None:
    folder = train_tiny("run", "tracker=mlflow", *SETTINGS)
    client, run_id = client_of(mlflow, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    mious = [(line["step"], line["miou"]) for line in lines if "miou" in line]
    for again in (False, True):
        if again:
            cut_back(folder)
            train_tiny("run", "tracker=mlflow", *SETTINGS, "resume=true")
        assert near(history(client, run_id, "train/loss")) == near(losses)
        assert near(history(client, run_id, "eval/miou")) == near(mious)
        assert [step for step, _ in history(client, run_id, "iou/background")] == [2, 4]
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params["model.name"] == "deeplabv3plus"
        assert not [name for name in run.data.params if name.startswith("tracker.")]
        best = json.loads((folder / "result.json").read_text())
        assert run.data.metrics["best_miou"] == best["miou"]
        assert {one.path for one in client.list_artifacts(run_id)} == {"config.yaml", "samples", "confusion"}
        images = [Path(one.path).name for one in client.list_artifacts(run_id, "samples")]
        assert images == ["step-00000000.png", "step-00000002.png", "step-00000004.png"]
    assert client_of(mlflow, folder)[1] == run_id
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_a_run_that_is_resumed_with_a_tracker_is_recorded_from_its_beginning(
    mlflow: Any, train_tiny: TrainTiny
) -> None:
    folder = train_tiny("run", *SETTINGS)
    assert not (folder / "tracker.json").exists()
    cut_back(folder)
    train_tiny("run", "tracker=mlflow", *SETTINGS, "resume=true")
    client, run_id = client_of(mlflow, folder)
    assert [step for step, _ in history(client, run_id, "train/loss")] == [1, 2, 3, 4]
    assert [step for step, _ in history(client, run_id, "iou/disc")] == [2, 4]


def test_the_jobs_of_a_sweep_are_runs_of_one_experiment(mlflow: Any, train_tiny: TrainTiny) -> None:
    for name in ("sweep/0", "sweep/1"):
        Path(name).mkdir(parents=True)
        train_tiny(name, "tracker=mlflow", "tracker.experiment=two words", "schedule.max_iters=1")
    client, _ = client_of(mlflow, Path("sweep/1").absolute())
    experiment = client.get_experiment_by_name("two words")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["sweep/0", "sweep/1"]
    assert {run.data.tags["deeplabx.group"] for run in runs} == {"sweep"}


def test_names_of_classes_are_made_such_as_mlflow_allows(mlflow: Any, tmp_path: Path) -> None:
    from deeplabx.tracker.contract import DONE, Run
    from deeplabx.tracker.mlflow import MLflow

    tracker = MLflow(tracking_uri=f"sqlite:///{tmp_path}/a folder/x.db", experiment="e")
    tracker.begin(Run("a/b", tmp_path))
    names = ["Füßgänger", "道路", "a/b", "a_b", "a(b)", "..", ".", "x" * 400, "50 %", ""]
    tracker.scalars(1, {"eval/miou": 0.5, **{f"iou/{name}": 0.5 for name in names}})
    tracker.end(DONE)
    metrics = tracker.client.get_run(tracker.run_id).data.metrics
    assert len(metrics) == len(names) + 1
    assert {"iou/Füßgänger", "iou/道路", "iou/a_b", "iou/a_b_2"} <= set(metrics)
