import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

from deeplabx.errors import DataError, DeviceError, PeerFailedError
from deeplabx.process import distributed
from deeplabx.process.launch import Report, first_failure, launch, refuse_what_would_come_again
from tests.engine import jobs


def test_one_device_is_a_plain_call() -> None:
    assert [launch(lambda: 7, devices=devices) for devices in ("auto", "cpu", "1")] == [7, 7, 7]


def test_torchrun_decides_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"WORLD_SIZE": 4, "RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 4, "MASTER_PORT": 29500}
    for name, value in {**said, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(
        DeviceError, match=r"trainer.devices=2, but 4 processes were started\nset trainer.devices=auto"
    ):
        launch(lambda: 7, devices="2")


def test_a_backend_is_for_processes_that_are_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(DeviceError, match=r"trainer.backend=gloo, but 2 processes were started"):
        launch(lambda: 7, devices="2", backend="gloo")


def test_only_gloo_lets_processes_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    started = mock.Mock(return_value=7)
    monkeypatch.setattr("deeplabx.process.launch.several", started)
    assert launch(os.getpid, devices="2", backend="gloo") == 7
    assert started.call_args[0][0].backend == "gloo"
    with pytest.raises(DeviceError, match=r"trainer.devices=2, but there are 1 GPUs"):
        launch(os.getpid, devices="2")


@pytest.mark.slow
def test_a_group_is_started_anew_when_a_process_is_lost(tmp_path: Path) -> None:
    assert launch(jobs.is_lost_once, tmp_path, devices="2", max_restarts=1) == "second time"


def test_an_error_of_ours_is_not_tried_again(tmp_path: Path) -> None:
    Report(0, 1.0, RuntimeError("gloo: connection closed by peer")).write(tmp_path)
    refuse_what_would_come_again(0, tmp_path)
    assert not list(tmp_path.iterdir())
    Report(1, 1.0, DataError("broken.png cannot be read")).write(tmp_path)
    with pytest.raises(SystemExit):
        refuse_what_would_come_again(0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_error_that_says_most_is_told(tmp_path: Path) -> None:
    Report(0, 1.0, PeerFailedError("another process of the run could not read its data")).write(tmp_path)
    Report(1, 2.0, DataError("broken.png cannot be read")).write(tmp_path)
    assert str(first_failure(tmp_path, {0: 1, 1: 1})) == "rank 1: broken.png cannot be read"


LATER = Report(0, 2.0, RuntimeError("gloo: connection closed by peer"))


def test_the_failure_that_came_first_is_told_with_its_rank_and_trace(tmp_path: Path) -> None:
    LATER.write(tmp_path)
    Report(1, 1.0, KeyError("nothing"), "the trace").write(tmp_path)
    found = first_failure(tmp_path, {0: 1, 1: 1})
    assert (type(found), str(found)) == (RuntimeError, "rank 1: KeyError: 'nothing'")
    assert found.__notes__ == ["the trace"]


def test_an_error_that_cannot_be_pickled_still_has_its_words(tmp_path: Path) -> None:
    error = ValueError("bad")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    Report(1, 1.0, error).write(tmp_path)
    assert str(first_failure(tmp_path, {1: 1})) == "rank 1: RuntimeError: ValueError: bad"


def test_an_error_of_ours_is_told_with_its_rank_and_hint(tmp_path: Path) -> None:
    Report(1, 1.0, DataError("broken.png cannot be read", hint="remove it")).write(tmp_path)
    found = first_failure(tmp_path, {0: -signal.SIGTERM, 1: 1})
    assert (type(found), str(found)) == (DataError, "rank 1: broken.png cannot be read\nremove it")


@pytest.mark.parametrize(("code", "why"), [(-9, "was killed by SIGKILL"), (3, "exited with code 3")])
def test_a_process_that_left_no_report_began_it(tmp_path: Path, code: int, why: str) -> None:
    LATER.write(tmp_path)
    found = first_failure(tmp_path, {0: 1, 1: code})
    assert isinstance(found, DeviceError)
    assert found.message == f"rank 1 {why}"


def test_the_processes_die_with_their_parent(tmp_path: Path) -> None:
    code = (
        "from tests.engine import jobs; from deeplabx.process.launch import launch; "
        f"launch(jobs.process_ids, {tmp_path!r}, devices='2')"
    )
    code = f"from pathlib import PosixPath\nif __name__ == '__main__':\n    {code}"
    script = tmp_path / "main.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, script], env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
    assert len(processes) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [process for process in processes if alive(process)] == []


def alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def start_method(folder: Path) -> str | None:
    atexit.register((folder / f"ended-{distributed.rank()}").touch)
    return multiprocessing.get_start_method()


@pytest.mark.slow
def test_the_processes_of_a_run_start_loader_workers_and_end_as_one_process_does(tmp_path: Path) -> None:
    assert launch(start_method, tmp_path, devices="2") == multiprocessing.get_start_method()
    assert {path.name for path in tmp_path.iterdir()} == {"ended-0", "ended-1"}  # what is to run at exit
