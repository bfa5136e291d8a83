import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeplabx.errors import DataError, DeviceError
from deeplabx.process.launch import launch
from tests.engine import jobs


def test_one_device_is_a_plain_call() -> None:
    assert [launch(lambda: 7, devices=devices) for devices in ("auto", "cpu", "1")] == [7, 7, 7]


def test_torchrun_decides_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        DeviceError, match=r"trainer.devices=2, but 4 processes were started\ntype trainer.devices=auto"
    ):
        launch(lambda: 7, devices="2")


def test_a_group_is_started_anew_when_a_process_is_lost(tmp_path: Path) -> None:
    assert launch(jobs.is_lost_once, tmp_path, devices="2", max_restarts=1) == "second time"


def test_an_error_of_ours_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rank 1: broken.png cannot be read"):
        launch(jobs.counts_and_fails, tmp_path, devices="2", max_restarts=1)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("data", DataError, r"^rank 1: broken.png cannot be read\nremove it$"),
        ("bug", RuntimeError, r"^rank 1: KeyError: 'nothing'"),
        ("kill", DeviceError, r"^rank 1 was killed by SIGKILL"),
    ],
)
def test_the_first_failure_is_told_with_its_rank(
    kind: str, error: type[Exception], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=words) as raised:
        launch(jobs.fails_on_rank_1, kind, devices="2")
    if kind == "bug":
        assert 'raise KeyError("nothing")' in raised.value.__notes__[0]
    assert "Traceback" not in "".join(capfd.readouterr())


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
        time.sleep(0.1)
    processes = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
    assert len(processes) == 2
    parent.kill()
    parent.wait()
    time.sleep(1)
    assert [process for process in processes if alive(process)] == []


def alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
