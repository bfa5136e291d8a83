"""Jobs of a sweep at the same time: their shares, their ends, and what a signal does to them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deeplabx.command.sweep_processes import Share, shares
from deeplabx.errors import DeviceError
from tests.conftest import TINY, processes_of_group

ONE_CORE = len(os.sched_getaffinity(0)) < 2
CORES = list(range(8))


def test_jobs_share_the_cores() -> None:
    found = shares(3, devices="auto", cores=CORES, limit=6.5, gpus=[])
    assert [share.cores for share in found] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert {share.threads for share in found} == {2}
    assert all(share.gpus == () for share in found)
    assert sorted(core for share in found for core in share.cores) == CORES


def test_each_job_has_gpus_of_its_own() -> None:
    gpus = ["4", "5", "GPU-abc", "7"]
    assert [one.gpus for one in shares(4, devices="auto", cores=CORES, limit=8, gpus=gpus)] == [
        ("4",),
        ("5",),
        ("GPU-abc",),
        ("7",),
    ]
    two = shares(2, devices="2", cores=CORES, limit=8, gpus=gpus)
    assert [one.gpus for one in two] == [("4", "5"), ("GPU-abc", "7")]
    assert two[1].environment()["CUDA_VISIBLE_DEVICES"] == "GPU-abc,7"
    assert all(one.gpus == () for one in shares(4, devices="cpu", cores=CORES, limit=8, gpus=gpus))


@pytest.mark.parametrize(
    ("jobs", "devices", "gpus", "limit", "said"),
    [
        (9, "auto", [], 99, "sweep.jobs=9, but there are 8 cores\nset sweep.jobs=8"),
        (3, "cpu", ["0"], 2, "sweep.jobs=3, but there are 2 cores\nset sweep.jobs=2"),
        (2, "auto", ["0"], 99, "sweep.jobs=2 needs 2 GPUs, but there are 1\nset sweep.jobs=1"),
        (2, "2", ["0", "1", "2"], 99, "sweep.jobs=2 with trainer.devices=2 needs 4 GPUs, but there are 3"),
    ],
)
def test_more_jobs_than_devices_are_refused(
    jobs: int, devices: str, gpus: list[str], limit: float, said: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        shares(jobs, devices=devices, cores=CORES, limit=limit, gpus=gpus)
    assert str(caught.value).startswith(said)


def test_the_user_decides_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Share((0,), (), 2).environment() == {"OMP_NUM_THREADS": "7"}
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert Share((0,), (), 2).environment() == {"OMP_NUM_THREADS": "2"}


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    path = folder / "sweep.json"
    return json.loads(path.read_text(encoding="utf-8"))["jobs"] if path.is_file() else []


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "deeplabx", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, encoding="utf-8", start_new_session=True
    )


def wait_for(text: str, *logs: Path) -> None:
    deadline = time.monotonic() + 120
    while not all(log.is_file() and text in log.read_text(encoding="utf-8") for log in logs):
        assert time.monotonic() < deadline
        time.sleep(0.05)


LONG = ["train", "-m", *TINY[:-1], "schedule.max_iters=5000", "trainer.samples=0", "hydra.sweep.dir=sweep"]


@pytest.mark.slow
@pytest.mark.skipif(ONE_CORE, reason="needs two cores")
def test_the_death_of_one_job_ends_no_other_and_a_signal_saves_all(tmp_path: Path) -> None:
    process = started(tmp_path, *LONG, "seed=0,1,2", "sweep.jobs=2")
    sweep = tmp_path / "sweep"
    wait_for("step 3/", sweep / "0" / "job.log", sweep / "1" / "job.log")
    listed = subprocess.run(
        ["pgrep", "-f", f'sweep_job .*{sweep}", "job": 0'], capture_output=True, encoding="utf-8", check=True
    )
    (first,) = map(int, listed.stdout.split())
    os.kill(first, signal.SIGKILL)
    wait_for("step 3/", sweep / "2" / "job.log")
    assert [job["status"] for job in jobs_of(sweep)] == ["failed", "running", "running"]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "SIGTERM received: the jobs that ran are saved\n  deeplabx sweep resume sweep" in err
    assert "job 0 failed after" in out
    assert "was killed by SIGKILL, as when memory runs out; its output is in" in out
    assert [job["status"] for job in jobs_of(sweep)] == ["failed", "stopped", "stopped"]
    assert all((sweep / str(at) / "checkpoints").is_dir() for at in (1, 2))
    assert processes_of_group(process.pid) == []


@pytest.mark.slow
@pytest.mark.skipif(ONE_CORE, reason="needs two cores")
def test_jobs_do_not_outlive_a_sweep_that_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, *LONG, "seed=0,1", "sweep.jobs=2")
    sweep = tmp_path / "sweep"
    wait_for("step 1/", sweep / "0" / "job.log", sweep / "1" / "job.log")
    process.kill()
    process.communicate()
    time.sleep(1)
    left = subprocess.run(["pgrep", "-f", f"sweep_job .*{sweep}"], capture_output=True, check=False)
    assert left.stdout == b""
