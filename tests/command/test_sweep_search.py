"""Searches: the space, the trials that a seed gives, what a killed one continues with, and pruning."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabx.command import sweep_record, sweep_search, train
from deeplabx.command.job import Job
from deeplabx.errors import ConfigError
from deeplabx.report.metrics_file import evaluations
from tests.command.light_sweeps import value_of, without_composing
from tests.command.test_sweep_resume import GOOD, change
from tests.conftest import Deeplabx

optuna = pytest.importorskip("optuna")

SPACE = [
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "backbone=resnet18,resnet50",
    "trainer.clip_norm=choice(1,2)",
    "schedule.warmup_iters=interval(0,9)",
    "schedule.power=range(0.5,1.0,0.25)",
]
STUDY = ["train", "-m", *SPACE]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rates of the jobs that are run; a job's mIoU follows from them."""
    found: list[float] = []

    def run(job: Job) -> float:
        lr = float(value_of("optimizer.lr", job.overrides))
        found.append(lr)
        return float(1 / (1 + abs(np.log10(lr) + 2)))

    without_composing(monkeypatch, plan=False)
    monkeypatch.setattr(train, "main", run)
    return found


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]


def trials_of(folder: Path) -> list[Any]:
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/study.db").trials


@pytest.mark.slow
def test_a_study_that_was_killed_has_the_trials_of_one_that_was_not(
    deeplabx: Deeplabx, tmp_path: Path, evaluated: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_search, "RANDOM", 2)  # so that TPE has something to say
    assert deeplabx(*STUDY, "sweep.trials=5", "hydra.sweep.dir=whole").code == 0
    whole = jobs_of(tmp_path / "whole")
    assert len(whole) == 5
    for job in whole:
        values = dict(one.split("=") for one in job["overrides"])
        assert 1e-4 <= float(values["optimizer.lr"]) <= 1e-1
        assert values["backbone"] in ("resnet18", "resnet50")
        assert values["schedule.warmup_iters"] in map(str, range(10))
        assert values["schedule.power"] in ("0.5", "0.75")
    assert [trial.value for trial in trials_of(tmp_path / "whole")] == [job["miou"] for job in whole]

    assert deeplabx(*STUDY, "sweep.trials=4", "hydra.sweep.dir=killed").code == 0
    # killed while the last one ran, before its end was recorded in the study
    change(tmp_path / "killed", lambda it: it["jobs"][3].update(status="running", miou=None))
    with sqlite3.connect(tmp_path / "killed" / "study.db") as base:
        base.execute("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 3")
        base.execute("DELETE FROM trial_values WHERE trial_id = 4")
    ended = deeplabx("sweep", "resume", "killed", "sweep.trials=5")
    assert ended.code == 0, ended.err
    for one, other in zip(whole, jobs_of(tmp_path / "killed"), strict=True):
        assert (one["overrides"], one["miou"]) == (other["overrides"], other["miou"])
    assert [trial.value for trial in trials_of(tmp_path / "killed")] == [job["miou"] for job in whole]


def test_a_trial_that_was_asked_for_and_not_written_down_is_run(
    deeplabx: Deeplabx, tmp_path: Path, evaluated: list[float]
) -> None:
    assert deeplabx("train", "-m", SPACE[0], "sweep.trials=3", "hydra.sweep.dir=sweep").code == 0
    rates = list(evaluated)
    change(tmp_path / "sweep", lambda it: it.update(jobs=it["jobs"][:2]))
    with sqlite3.connect(tmp_path / "sweep" / "study.db") as base:
        base.execute("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 2")
        base.execute("DELETE FROM trial_values WHERE trial_id = 3")
    evaluated.clear()
    assert deeplabx("sweep", "resume", "sweep").code == 0
    assert evaluated == rates[2:]
    assert len(trials_of(tmp_path / "sweep")) == len(jobs_of(tmp_path / "sweep")) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seed=1", "sweep.trials asks for a search, but no setting varies"),
        ("optimizer.lr=interval(0.2,0.1)", "optimizer.lr=interval(0.2,0.1) is not a range"),
        ("optimizer.lr=tag(log,interval(0,0.1))", "above 0 with the tag log"),
        ("schedule.warmup_iters=interval(0.5,2)", "is of a whole number"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(
    deeplabx: Deeplabx, tmp_path: Path, evaluated: list[float], words: str, said: str
) -> None:
    ended = deeplabx("train", "-m", words, "sweep.trials=2", "hydra.sweep.dir=sweep")
    assert (ended.code, evaluated) == (2, [])
    assert said in ended.err


@pytest.mark.slow
def test_a_damaged_study_is_refused(deeplabx: Deeplabx, tmp_path: Path, evaluated: list[float]) -> None:
    assert deeplabx("train", "-m", SPACE[0], "sweep.trials=1", "hydra.sweep.dir=sweep").code == 0
    database = tmp_path / "sweep" / "study.db"
    database.write_bytes(b"not a database" * 100)
    ended = deeplabx("sweep", "resume", "sweep", "sweep.trials=2")
    assert (ended.code, len(ended.err.splitlines())) == (4, 2)
    assert "study.db cannot be used" in ended.err
    database.unlink()
    ended = deeplabx("sweep", "resume", "sweep", "sweep.trials=2")
    assert ended.code == 4
    assert "study.db has 0 trials, but sweep.json 1 jobs" in ended.err


def test_without_optuna_it_is_said_what_installs_it(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str, *, extra: str) -> None:
        raise ConfigError(f"this needs the package {module}", hint=f"pip install 'deeplabx[{extra}]'")

    monkeypatch.setattr(sweep_search, "needed", absent)
    ended = deeplabx("train", "-m", SPACE[0], "sweep.trials=2", "hydra.sweep.dir=sweep")
    assert ended.code == 2
    assert "pip install 'deeplabx[search]'" in ended.err
    assert not (tmp_path / "sweep").exists()


def written(folder: Path, curves: list[dict[int, float]]) -> sweep_record.Sweep:
    """A sweep of finished jobs with these evaluations, and one job that runs."""
    jobs = []
    for at, curve in enumerate([*curves, {}]):
        (folder / str(at)).mkdir()
        lines = [json.dumps({"step": step, "miou": miou}) for step, miou in curve.items()]
        (folder / str(at) / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
        done = (
            {"status": "done", "miou": max(curve.values())} if curve else {"status": "running", "miou": None}
        )
        jobs.append({**GOOD["jobs"][0], "job": at, "folder": str(at), **done})
    (folder / "sweep.json").write_text(json.dumps({**GOOD, "jobs": jobs}), encoding="utf-8")
    return sweep_record.read(folder)


def test_pruning_is_by_the_median_at_the_same_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    curves = [{step: float(rng.random()) for step in (10, 20)} for _ in range(7)]
    sweep = written(tmp_path, curves)
    for step in (10, 20):
        median = float(np.median([max(v for s, v in curve.items() if s <= step) for curve in curves]))
        at_step = float(np.median([curve[step] for curve in curves]))
        assert sweep_search.below_median(sweep, 7, {step: at_step - 1e-6})
        assert not sweep_search.below_median(sweep, 7, {step: at_step + 1e-6})
        assert at_step <= median
    prune = sweep_search.Pruning(tmp_path, 7)
    assert not prune(10, 0.999)
    assert not (tmp_path / "7" / "PRUNED").exists()
    assert prune(10, 0.001)
    assert "step 10: mIoU 0.0010" in (tmp_path / "7" / "PRUNED").read_text(encoding="utf-8")


def test_nothing_is_pruned_before_five_jobs_are_finished(tmp_path: Path) -> None:
    assert not sweep_search.below_median(written(tmp_path, [{10: 0.9}] * 4), 4, {10: 0.0})


def test_a_training_that_is_pruned_is_saved_and_has_a_status_of_its_own(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import TINY

    class Always:
        def __init__(self, folder: Path, job: int) -> None:
            self.mark = folder / str(job) / "PRUNED"

        def __call__(self, step: int, miou: float) -> bool:
            self.mark.write_text(f"at {step}", encoding="utf-8")
            return step == 2

    monkeypatch.setattr(sweep_search, "Pruning", Always)
    words = [*TINY, "trainer.eval_every=2", "optimizer.lr=interval(0.01,0.1)", "sweep.trials=1"]
    ended = deeplabx("train", "-m", *words, "sweep.prune=true", "hydra.sweep.dir=sweep")
    assert ended.code == 0, ended.err
    (job,) = jobs_of(tmp_path / "sweep")
    assert job["status"] == "pruned"
    assert not (tmp_path / "sweep" / "0" / "INTERRUPTED").exists()
    (trial,) = trials_of(tmp_path / "sweep")
    assert trial.state.name == "PRUNED"
    assert list(trial.intermediate_values) == [2]
    assert (
        sorted(one.name for one in (tmp_path / "sweep/0/checkpoints").glob("step-*"))[-1] == "step-00000003"
    )


@pytest.mark.parametrize("stored", [0, 1, 3])
@pytest.mark.slow
def test_settings_that_were_not_drawn_before_a_kill_are_drawn_as_they_would_have_been(
    deeplabx: Deeplabx, tmp_path: Path, evaluated: list[float], monkeypatch: pytest.MonkeyPatch, stored: int
) -> None:
    monkeypatch.setattr(sweep_search, "RANDOM", 1)
    assert deeplabx(*STUDY, "sweep.trials=3", "hydra.sweep.dir=sweep").code == 0
    whole = jobs_of(tmp_path / "sweep")
    change(tmp_path / "sweep", lambda it: it.update(jobs=it["jobs"][:2]))
    with sqlite3.connect(tmp_path / "sweep" / "study.db") as base:
        base.execute("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 2")
        base.execute("DELETE FROM trial_values WHERE trial_id = 3")
        first = "SELECT param_id FROM trial_params WHERE trial_id = 3 ORDER BY param_id LIMIT ?"
        base.execute(
            f"DELETE FROM trial_params WHERE trial_id = 3 AND param_id NOT IN ({first})",
            (stored,),
        )
    ended = deeplabx("sweep", "resume", "sweep")
    assert ended.code == 0, ended.err
    assert [job["overrides"] for job in jobs_of(tmp_path / "sweep")] == [job["overrides"] for job in whole]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE trial_params SET distribution_json = '{}'", 4),
        ("UPDATE trial_params SET param_value = 1e300", 4),
        ("CREATE TRIGGER full BEFORE INSERT ON trials BEGIN SELECT RAISE(ABORT, 'disk is full'); END", 6),
    ],
)
@pytest.mark.slow
def test_a_study_that_cannot_be_used_or_written_is_said(
    deeplabx: Deeplabx, tmp_path: Path, evaluated: list[float], statement: str, code: int
) -> None:
    assert deeplabx(*STUDY[:4], "sweep.trials=1", "hydra.sweep.dir=sweep").code == 0
    with sqlite3.connect(tmp_path / "sweep" / "study.db") as base:
        base.execute(statement)
    ended = deeplabx("sweep", "resume", "sweep", "sweep.trials=2")
    assert (ended.code, len(ended.err.splitlines())) == (code, 2)
    assert "study.db cannot be" in ended.err


def test_steps_and_mious_that_no_run_has_are_not_given_to_the_study(tmp_path: Path) -> None:
    lines = [
        '{"step": 2, "miou": 0.5}',
        '{"step": 1' + "0" * 30 + ', "miou": 0.5}',
        '{"step": 4, "miou": 1e300}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert evaluations(tmp_path) == {2: 0.5}
