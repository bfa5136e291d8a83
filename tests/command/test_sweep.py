"""Jobs and sweeps: folders, summaries, and what is said of a failure."""

import json
from pathlib import Path

import pytest

from deeplabx.command import sweep
from deeplabx.errors import DataError, report
from tests.conftest import TINY, Deeplabx

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
    assert str(sweep.in_words(ZeroDivisionError("x"), tmp_path)) == (
        f"internal error: ZeroDivisionError: x\nthe traceback is in {tmp_path}/error.log"
    )
    assert "ZeroDivisionError: x" in (tmp_path / "error.log").read_text()
    error = sweep.in_words(ZeroDivisionError("x"), tmp_path / "gone")
    assert str(error).startswith("internal error: ZeroDivisionError: x\nits traceback could not be written")
