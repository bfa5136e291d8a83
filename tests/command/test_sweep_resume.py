"""Sweeps that are continued: what is run again, what is refused, and that the result is the same."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deeplabx.command import resume, sweep, sweep_record, train
from deeplabx.command.job import Job
from deeplabx.engine.lock import locked
from deeplabx.errors import DataError
from tests.command.light_sweeps import without_composing
from tests.conftest import Deeplabx

Change = Callable[[dict[str, Any]], Any]
SWEEP = ["train", "-m", "seed=0,1,2", "hydra.sweep.dir=sweep"]
TWO = ["train", "-m", "seed=0,1", "hydra.sweep.dir=sweep"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that are run, by their folder, without being composed. Job 1 fails while there is a file
    `failing`.
    """
    without_composing(monkeypatch)
    return noted(monkeypatch)


@pytest.fixture
def composed_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same; the jobs are composed."""
    return noted(monkeypatch)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def run(job: Job) -> float:
        found.append(job.folder.name)
        if (job.folder.parent / "failing").is_file() and job.folder.name == "1":
            raise DataError("no images")
        return (1 + int(job.folder.name)) / 10

    monkeypatch.setattr(train, "main", run)
    return found


def statuses(folder: Path) -> list[str]:
    return [job["status"] for job in json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]]


def change(folder: Path, edit: Change) -> None:
    """Change sweep.json."""
    path = folder / "sweep.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    found = edit(content)
    path.write_text(json.dumps(content if found is None else found), encoding="utf-8")


def test_what_failed_is_run_again_and_what_is_done_is_not(
    deeplabx: Deeplabx, tmp_path: Path, calls: list[str]
) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "failing").touch()
    assert deeplabx(*SWEEP).code == 8
    assert statuses(folder) == ["done", "failed", "done"]
    (folder / "failing").unlink()
    calls.clear()
    ended = deeplabx("sweep", "resume", "sweep")
    assert ended.code == 0, ended.err
    assert calls == ["1"]
    assert statuses(folder) == ["done"] * 3
    assert "best: sweep/2, mIoU 0.3000" in ended.out
    job = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"][1]
    assert (job["miou"], "error" in job, "exit_code" in job) == (0.2, False, False)
    calls.clear()
    assert deeplabx("sweep", "resume", "sweep").code == 0
    assert calls == []


def test_a_sweep_whose_process_was_killed_runs_what_ran_and_what_is_missing(
    deeplabx: Deeplabx, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deeplabx(*SWEEP).code == 0
    change(tmp_path / "sweep", lambda it: it["jobs"][1].update(status="running", miou=None))
    change(tmp_path / "sweep", lambda it: it["jobs"][2].update(status="planned", miou=None))
    (tmp_path / "sweep" / "1" / "config.yaml").write_text("", encoding="utf-8")  # it had begun
    resumed = []

    def resume_run(folder: Path, **rest: object) -> float:
        resumed.append(folder.name)
        return 0.25

    monkeypatch.setattr(resume, "resume", resume_run)
    calls.clear()
    shown = deeplabx("sweep", "show", "sweep")
    assert "job 1: was killed, not evaluated yet" in shown.out
    assert "2 jobs are not finished: deeplabx sweep resume sweep" in shown.out
    assert deeplabx("sweep", "resume", "sweep").code == 0
    assert (resumed, calls) == (["1"], ["2"])


@pytest.mark.parametrize("words", [[], ["resume=true"]])
def test_a_folder_with_a_sweep_is_not_written_to(
    deeplabx: Deeplabx, tmp_path: Path, calls: list[str], words: list[str]
) -> None:
    assert deeplabx(*SWEEP).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    calls.clear()
    ended = deeplabx(*SWEEP, *words)
    assert (ended.code, calls) == (2, [])
    assert "sweep holds a sweep already\n  deeplabx sweep resume sweep runs what" in ended.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}


def test_a_moved_sweep_is_resumed_with_its_folder_of_configs(
    deeplabx: Deeplabx, tmp_path: Path, composed_calls: list[str]
) -> None:
    recipe = tmp_path / "own" / "recipe"
    recipe.mkdir(parents=True)
    (recipe / "mine.yaml").write_text("# @package _global_\noptimizer: {lr: 0.5}\n", encoding="utf-8")
    assert deeplabx(*TWO, "--config-dir", "own", "+recipe=mine").code == 0
    change(tmp_path / "sweep", lambda it: it["jobs"][1].update(status="failed", error="x", miou=None))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sweep").rename(tmp_path / "elsewhere" / "moved")
    composed_calls.clear()
    ended = deeplabx("sweep", "resume", "elsewhere/moved")
    assert ended.code == 0, ended.err
    assert composed_calls == ["1"]
    assert not (tmp_path / "sweep").exists()


def test_two_processes_do_not_resume_one_sweep(deeplabx: Deeplabx, tmp_path: Path, calls: list[str]) -> None:
    assert deeplabx(*SWEEP).code == 0
    with locked(tmp_path / "sweep"):
        ended = deeplabx("sweep", "resume", "sweep")
    assert ended.code == 2
    assert "sweep is in use by another run" in ended.err
    assert "deeplabx sweep show sweep lists its jobs" in ended.err


PLUGIN = """
import dataclasses
import deeplabx
from deeplabx.config.schema import ScheduleSettings

@dataclasses.dataclass
class Mine(ScheduleSettings):
    pass

deeplabx.register("schedule", "mine", build=lambda **rest: lambda step: 1.0, settings=Mine, words="x")
"""


@pytest.mark.usefixtures("own_options")
def test_plugins_are_given_again(
    deeplabx: Deeplabx, tmp_path: Path, composed_calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deeplabx import registry
    from deeplabx.run import plugins

    (tmp_path / "mine_of_sweep.py").write_text(PLUGIN, encoding="utf-8")
    for table in (plugins.GIVEN, plugins.LOADED):
        monkeypatch.setattr(plugins, "GIVEN" if table is plugins.GIVEN else "LOADED", dict(table))
    ended = deeplabx(*TWO[:2], "seed=0", TWO[-1], "plugins=mine_of_sweep.py", "schedule=mine")
    assert ended.code == 0, ended.err
    content = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in content["plugins"]] == ["mine_of_sweep"]
    assert len(content["plugins"][0]["sha256"]) == 64
    change(tmp_path / "sweep", lambda it: it["plugins"][0].update(sha256="0" * 64))
    ended = deeplabx("sweep", "resume", "sweep", "plugins=mine_of_sweep.py")
    assert (ended.code, "the plug-in mine_of_sweep has changed" in ended.err) == (2, True)
    monkeypatch.delitem(registry.OPTIONS["schedule"], "mine")
    plugins.GIVEN.clear()
    ended = deeplabx("sweep", "resume", "sweep")
    assert ended.code == 4
    assert "type plugins=mine_of_sweep.py, with the path of that file" in ended.err


def put(**values: Any) -> Change:
    return lambda content: content.update(values)


def put_job(**values: Any) -> Change:
    return lambda content: content["jobs"][1].update(values)


BAD: dict[str, tuple[Change, int]] = {
    "a list": (lambda content: [], 4),
    "no jobs": (lambda content: {"format": 1}, 4),
    "an older form": (lambda content: {"jobs": content["jobs"]}, 2),
    "a newer form": (put(format=2), 2),
    "no such command": (put(command="rm"), 4),
    "a command without settings": (put(command="doctor"), 4),
    "a flag": (put(flags={"--cfg": "job"}), 4),
    "overrides of another type": (put(overrides=[1]), 4),
    "a launcher": (put(hydra=["hydra/launcher=evil"]), 2),
    "a package to search": (put(hydra=["hydra.searchpath=[pkg://evil]"]), 2),
    "settings of another type": (put(settings={"jobs": "x"}), 4),
    "plug-ins of another type": (put(plugins="x"), 4),
    "a folder that is gone": (put(cwd="/nowhere/at/all"), 2),
    "a folder outside": (put_job(folder="../outside"), 4),
    "an absolute folder": (put_job(folder="/tmp/outside"), 4),
    "the sweep's own folder": (put_job(folder="."), 4),
    "a status": (put_job(status="won"), 4),
    "a text as a number": (put_job(miou="9" * 400), 4),
    "a huge number": (put_job(miou=10**400), 4),
    "a number out of range": (put_job(miou=1e308), 4),
    "a time that no clock shows": (put_job(seconds=-1), 4),
    "a huge exit code": (put_job(status="failed", error="x", exit_code=10**400), 4),
    "another number": (put_job(job=7), 4),
    "an override of Hydra": (put_job(overrides=["hydra.run.dir=/tmp/outside"]), 4),
    "a field": (put_job(code="x"), 4),
    "a SLURM job": (put_job(slurm="1;rm"), 4),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_sweep_json_that_no_sweep_writes_is_refused_in_a_line(
    deeplabx: Deeplabx, tmp_path: Path, calls: list[str], kind: str
) -> None:
    edit, code = BAD[kind]
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps(GOOD), encoding="utf-8")
    change(folder, edit)
    ended = deeplabx("sweep", "resume", "sweep")
    assert (ended.code, calls) == (code, []), ended.err
    assert 1 <= len(ended.err.splitlines()) <= 3
    assert "sweep" in ended.err
    assert not (tmp_path / "outside").exists()


GOOD: dict[str, Any] = {
    "format": 1,
    "deeplabx": "0.1.0",
    "command": "train",
    "flags": {},
    "hydra": [],
    "overrides": ["seed=0,1"],
    "cwd": str(Path.cwd()),
    "plugins": [],
    "settings": {
        **{"jobs": None, "launcher": "local", "trials": None, "sampler": "tpe", "seed": 0, "prune": False},
        "slurm": {
            **{"partition": None, "minutes": 5, "gpus": 0, "cpus": 1, "memory": None, "extra": None},
        },
    },
    "jobs": [
        {"job": at, "overrides": [f"seed={at}"], "folder": str(at), "status": "planned", "miou": None}
        | {"seconds": 0.0}
        for at in (0, 1)
    ],
}


def test_the_good_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps(GOOD), encoding="utf-8")
    assert [job["folder"] for job in sweep_record.read(tmp_path).jobs] == ["0", "1"]


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"format": NaN}', '{"format": 1, "jobs": 1}', "\ud800"]
)
def test_a_damaged_sweep_json_is_refused(deeplabx: Deeplabx, tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    for words in ("resume", "show"):
        ended = deeplabx("sweep", words, ".")
        assert ended.code == 4
        assert ended.err.startswith("deeplabx: sweep.json ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep.trials=3"], "sweep.trials cannot make a grid a search"),
        (["sweep.jobs=0"], "sweep.jobs=0 is out of range"),
        (["sweep.jobs=1000"], "sweep.jobs=1000, but there are"),
        (["sweep.prune=true"], "sweep.prune is of a search"),
        (["sweep.job=2"], "sweep.job is not a setting. Did you mean sweep.jobs?"),
        (["seed=3"], "seed cannot be changed by this command"),
    ],
)
def test_what_cannot_be_changed_by_a_resume(
    deeplabx: Deeplabx, tmp_path: Path, calls: list[str], words: list[str], said: str
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(GOOD), encoding="utf-8")
    ended = deeplabx("sweep", "resume", "sweep", *words)
    assert ended.code in (2, 5)
    assert said in ended.err
    assert calls == []


def test_a_run_is_not_written_into_the_folder_of_a_sweep(deeplabx: Deeplabx, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(GOOD), encoding="utf-8")
    ended = deeplabx("train", "dataset=shapes", "hydra.run.dir=sweep")
    assert ended.code == 2
    assert "sweep holds a sweep, not a run" in ended.err
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["sweep.json"]


def test_a_sweep_whose_own_files_cannot_be_written_ends_in_words(
    deeplabx: Deeplabx, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(sweep, "alone", full)
    ended = deeplabx("train", "-m", "seed=0,1", "hydra.sweep.dir=sweep")
    assert (ended.code, calls) == (6, [])
    assert ended.err.startswith("deeplabx: sweep: No space left on device")
