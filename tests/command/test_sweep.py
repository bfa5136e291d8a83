"""Jobs and sweeps: folders, summaries, and what is said of a failure."""

import json
import os
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Self

import pytest

from deeplabx.command import jobs as one_job
from deeplabx.command import predict, sweep_record, train
from deeplabx.command.job import Job
from deeplabx.engine import durable
from deeplabx.errors import DataError, PreemptedError, StoppedError, report
from tests.command.light_sweeps import without_composing
from tests.conftest import TINY, Deeplabx, Ended

ONE_STEP = [*TINY, "schedule.max_iters=1", "trainer.samples=0"]


def test_a_sweep_has_a_folder_per_job_and_a_summary(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("train", *ONE_STEP, "-m", "optimizer.lr=0.01,0.02")
    assert ended.code == 0, ended.err
    (summary,) = tmp_path.glob("outputs/sweep/*/sweep.json")
    jobs = json.loads(summary.read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["done", "done"]
    assert [job["overrides"][-1] for job in jobs] == ["optimizer.lr=0.01", "optimizer.lr=0.02"]
    for job in jobs:
        folder = summary.parent / job["folder"]
        assert (folder / "DONE").is_file()
        assert json.loads((folder / "result.json").read_text())["miou"] == job["miou"]


def test_a_failing_job_stops_nothing_and_is_reported_at_the_end(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("train", "-m", *ONE_STEP, "optimizer.lr=nan,0.01")
    assert ended.code == 8, ended.err
    (summary,) = tmp_path.glob("outputs/sweep/*/sweep.json")
    jobs = json.loads(summary.read_text())["jobs"]
    assert [(job["status"], job.get("exit_code")) for job in jobs] == [("failed", 2), ("done", None)]
    assert (summary.parent / "0" / "FAILED").is_file()
    assert (summary.parent / "1" / "DONE").is_file()
    assert "1 of 2 jobs failed" in ended.err
    assert "Traceback" not in ended.err


def test_an_error_does_nothing_to_the_terminal_but_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(DataError("bad\x1b[2J\nname\u202e" + "x" * 10**6, hint="a\nb\x07\nc")) == 3
    first, *hint = capsys.readouterr().err.splitlines()
    assert first.startswith("deeplabx: bad\\x1b[2J\\nname\\u202exxx")
    assert len(first) < 600
    assert hint == ["  a", "  b\\x07"]


def test_an_internal_error_says_where_its_traceback_is(tmp_path: Path) -> None:
    assert str(one_job.in_words(ZeroDivisionError("x"), tmp_path)) == (
        f"internal error: ZeroDivisionError: x\nthe traceback is in {tmp_path}/error.log"
    )
    assert "ZeroDivisionError: x" in (tmp_path / "error.log").read_text()
    error = one_job.in_words(ZeroDivisionError("x"), tmp_path / "gone")
    assert str(error).startswith("internal error: ZeroDivisionError: x\nits traceback could not be written")


UNREADABLE = os.fsdecode(b"caf\xe9.jpg: not a readable image")


Second = Callable[[Path], float]


@pytest.fixture
def swept(deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Second], Ended]:
    """Run a sweep of three jobs whose second is other than the rest."""
    without_composing(monkeypatch)

    def run(second: Second) -> Ended:
        def job_of(job: Job) -> float:
            if job.folder.name == "1":
                return second(job.folder)
            return 0.5

        monkeypatch.setattr(train, "main", job_of)
        return deeplabx("train", "-m", "seed=0,1,2", "hydra.sweep.dir=sweep")

    return run


def outcomes(folder: Path) -> list[tuple[str, int | None]]:
    jobs = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    return [(job["status"], job.get("exit_code")) for job in jobs]


def raising(error: BaseException) -> Callable[[Path], float]:
    def ends(folder: Path) -> float:
        raise error

    return ends


def vanishing(folder: Path) -> float:
    folder.rmdir()
    raise DataError(UNREADABLE)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (StoppedError("stopped at step 3"), 130),
        (PreemptedError("saved at step 3"), 75),
        (SystemExit(75), 75),  # TERM before the first step of a job
    ],
)
def test_a_sweep_that_is_stopped_leaves_its_plan_and_ends_with_the_code_of_what_stopped_it(
    tmp_path: Path, swept: Callable[[Second], Ended], error: BaseException, code: int
) -> None:
    ended = swept(raising(error))
    assert ended.code == code, ended.err
    assert outcomes(tmp_path / "sweep") == [("done", None), ("stopped", code), ("planned", None)]
    assert "Traceback" not in ended.err
    if not isinstance(error, SystemExit):  # of which cli.leave has said what to do
        assert "\n  deeplabx sweep resume sweep\n" in ended.err


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (raising(SystemExit("x")), 1),  # a library that ends the process
        (raising(SystemExit(0)), 1),
        (raising(UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range")), 1),
        (raising(DataError(UNREADABLE)), 3),
        (raising(OSError(28, "No space left on device")), 6),
        (vanishing, 3),
    ],
)
def test_a_sweep_continues_whatever_a_job_does(
    tmp_path: Path, swept: Callable[[Second], Ended], second: Second, code: int
) -> None:
    ended = swept(second)
    assert ended.code == 8
    assert "1 of 3 jobs failed; the others are done" in ended.err
    assert "deeplabx sweep resume sweep runs what failed again" in ended.err
    assert outcomes(tmp_path / "sweep") == [("done", None), ("failed", code), ("done", None)]
    if second is vanishing:
        assert "sweep/1/FAILED cannot be written: No such file or directory" in ended.err
    else:
        assert (tmp_path / "sweep" / "1" / "FAILED").read_text(encoding="utf-8").strip()


def test_a_summary_that_cannot_be_written_is_an_error_at_the_end(
    swept: Callable[[Second], Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = durable.replace
    written = []

    def full(path: Path, text: str) -> None:
        written.append(path)
        if len(written) > 1:  # the plan is written; a sweep without one does not begin
            raise OSError(28, "No space left on device", str(path))
        whole(path, text)

    monkeypatch.setattr(sweep_record, "replace", full)
    ended = swept(lambda folder: 0.25)
    assert ended.code == 6
    assert "sweep.json: No space left on device" in ended.err
    assert "3 jobs: 3 done" in ended.out


class Noon(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(2026, 1, 1, 12)


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydra.core.utils.datetime", Noon)


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["train"], "outputs/train/*/2026*"),
        (["train", "-m", "seed=0"], "outputs/sweep/2026*"),
        (["predict", "ckpt=run", "input=run"], "outputs/predict/2026*"),
    ],
)
@pytest.mark.usefixtures("stopped_clock", "own_run")
def test_runs_that_start_at_once_have_folders_of_their_own(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], folders: str
) -> None:
    def leave_a_file(job: Job) -> float:
        (job.folder / "result.json").write_text("{}", encoding="utf-8")
        return 0.5

    for module in (train, predict):
        monkeypatch.setattr(module, "main", leave_a_file)
    for _ in range(2):
        ended = deeplabx(*words)
        assert ended.code == 0, ended.err
    found = sorted(path.name for path in tmp_path.glob(folders))
    assert [name.removeprefix(found[0]) for name in found] == ["", "-2"]


@pytest.mark.usefixtures("stopped_clock")
def test_a_folder_that_is_named_is_the_one(deeplabx: Deeplabx, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def note(job: Job) -> float:
        folders.append(job.folder.name)
        (job.folder / "result.json").write_text("{}", encoding="utf-8")
        return 0.5

    monkeypatch.setattr(train, "main", note)
    for _ in range(2):
        assert deeplabx("train", "hydra.run.dir=mine").code == 0
        assert deeplabx("train", "hydra.run.dir=${now:%Y-%m-%d}").code == 0
    assert folders == ["mine", "2026-01-01"] * 2
