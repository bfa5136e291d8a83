"""Jobs and sweeps: folders, summaries, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deeplabx.command import sweep
from deeplabx.errors import DataError
from tests.conftest import TINY


def deeplabx(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deeplabx", *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def test_a_sweep_has_a_folder_per_job_and_a_summary(tmp_path: Path) -> None:
    done = deeplabx("train", *TINY, "schedule.max_iters=2", "-m", "optimizer.lr=0.01,0.02", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("outputs/sweep/*/sweep.json")
    jobs = json.loads(summary.read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["done", "done"]
    assert ["optimizer.lr=0.01" in job["overrides"] for job in jobs] == [True, False]
    for job in jobs:
        folder = summary.parent / job["folder"]
        assert (folder / "DONE").is_file()
        assert json.loads((folder / "result.json").read_text())["miou"] == job["miou"]


def test_a_failing_job_stops_nothing_and_is_reported_at_the_end(tmp_path: Path) -> None:
    done = deeplabx("train", "-m", *TINY, "schedule.max_iters=1", "optimizer.lr=nan,0.01", cwd=tmp_path)
    assert done.returncode == 8, done.stderr
    (summary,) = tmp_path.glob("outputs/sweep/*/sweep.json")
    jobs = json.loads(summary.read_text())["jobs"]
    assert [(job["status"], job.get("exit_code")) for job in jobs] == [("failed", 2), ("done", None)]
    assert (summary.parent / "0" / "FAILED").is_file()
    assert (summary.parent / "1" / "DONE").is_file()
    assert "1 of 2 jobs failed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["train", "dataset=camvid", "dataset.root=nowhere"],
            3,
            "dataset.root=nowhere: there is no such folder",
        ),
        (["train", "dataset=camvid"], 3, "dataset.root is not set"),
        (["eval", "ckpt=nowhere"], 4, "ckpt=nowhere does not exist"),
        (["predict", "ckpt=nowhere", "input=x (1).jpg"], 3, "input=x (1).jpg does not exist"),
        (["resume", "x" * 300], 4, "is not the folder of a run"),
        (["train", "hydra.run.dir=/proc/x"], 6, "/proc/x cannot be made or read"),
        (["predict", f"out={'x' * 300}"], 6, ": File name too long"),
        (["resume", "nowhere"], 4, "nowhere is not the folder of a run"),
        (["train", "init_from=nowhere"], 4, "init_from=nowhere does not exist"),
        (["train", "backbone.weights=no where.pth"], 4, "no where.pth does not exist"),
        (["weights", "import", "source=nowhere.pth", "out=x"], 4, "source=nowhere.pth does not exist"),
        (["weights", "import", "out=x"], 2, "source= must be given"),
        (
            ["weights", "list", "resnet50_imagenet"],
            4,
            "resnet50_imagenet is not the name of known weights. Did you mean resnet50_imagenet",
        ),
        (["weights", "verify", "source=nowhere.pth", "lr=1"], 2, "lr"),
        (
            ["train", "trainer.devices=2", "model.norm=sync"],
            5,
            ": model.norm=sync in several processes needs GPUs",
        ),
    ],
)
def test_exit_codes(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = deeplabx(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_strangers_yaml_calls_nothing(tmp_path: Path) -> None:
    (tmp_path / "their" / "recipe").mkdir(parents=True)
    (tmp_path / "their" / "recipe" / "nice.yaml").write_text(
        "# @package _global_\nhydra: {callbacks: {x: {_target_: os.mkdir, path: ran}}}\n"
    )
    done = deeplabx("train", "--config-dir", "their", "+recipe=nice", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "deeplabx: hydra.callbacks are not called")
    assert not (tmp_path / "ran").exists()


def test_an_error_does_nothing_to_the_terminal_but_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.report(DataError("bad\x1b[2J\nname\u202e" + "x" * 10**6, hint="a\nb\x07\nc")) == 3
    first, *hint = capsys.readouterr().err.splitlines()
    assert first.startswith("deeplabx: bad\\x1b[2J\\nname\\u202exxx")
    assert len(first) < 600
    assert hint == ["  a", "  b\\x07"]


def test_a_bug_is_told_even_where_its_traceback_cannot_be_written(tmp_path: Path) -> None:
    error = sweep.in_words(ZeroDivisionError("x"), tmp_path / "gone")
    assert str(error).startswith("internal error: ZeroDivisionError: x\nits traceback could not be written")


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m deeplabx train --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
