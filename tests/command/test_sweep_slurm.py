"""Jobs of a sweep through submitit, with its executor for one machine."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from deeplabx.command import sweep_slurm
from deeplabx.command.sweep_record import Sweep
from deeplabx.config import schema
from deeplabx.report.sweep_jobs import SweepJob
from tests.command.light_sweeps import without_composing
from tests.conftest import TINY, Deeplabx

pytest.importorskip("submitit")
# submitit's executor for one machine leaves its processes to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_slurm, "CLUSTER", "local")
    monkeypatch.setattr(sweep_slurm, "POLL", 0.2)


RESULT = '{"status": "done", "miou": 0.5, "seconds": 2.5}'


@pytest.mark.usefixtures("on_this_machine")
def test_a_job_is_submitted_and_its_end_is_written_down(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instead_of_training(sweep: Sweep, job: SweepJob) -> list[str]:
        return ["sh", "-c", f"echo working; echo '{RESULT}' > {sweep.job_folder(job).absolute()}/job.json"]

    without_composing(monkeypatch)
    monkeypatch.setattr(sweep_slurm, "words_of", instead_of_training)
    ended = deeplabx("train", "-m", "seed=3", "sweep.launcher=slurm", "hydra.sweep.dir=sweep")
    assert ended.code == 0, ended.err
    (job,) = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    assert (job["status"], job["miou"], job["seconds"]) == ("done", 0.5, 2.5)
    assert (tmp_path / "sweep" / "slurm" / f"{job['slurm']}_0_log.out").is_file()
    assert (tmp_path / "sweep" / "0" / "job.log").read_text(encoding="utf-8") == "working\n"


@pytest.mark.slow
@pytest.mark.usefixtures("on_this_machine")
def test_a_job_that_is_preempted_is_queued_again_and_continues(deeplabx: Deeplabx, tmp_path: Path) -> None:
    log = tmp_path / "sweep" / "0" / "job.log"

    def preempt() -> None:
        while not log.is_file() or "step 3/" not in log.read_text(encoding="utf-8"):
            time.sleep(0.05)
        listed = subprocess.run(
            ["pgrep", "-f", f"submitit.core._submit {tmp_path}"], capture_output=True, check=True
        )
        for one in map(int, listed.stdout.split()):
            os.kill(one, signal.SIGUSR2)

    threading.Thread(target=preempt, daemon=True).start()
    words = [*TINY, "schedule.max_iters=150", "trainer.samples=0", "seed=3", "sweep.launcher=slurm"]
    ended = deeplabx("train", "-m", *words, "sweep.slurm.minutes=60", "hydra.sweep.dir=sweep")
    assert ended.code == 0, ended.err
    text = log.read_text(encoding="utf-8")
    assert "SIGUSR1 received: saved at step" in text
    assert text.count("steps 0..150") == 1
    (job,) = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    assert job["status"] == "done"


def test_what_is_asked_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("submitit.slurm.slurm.SlurmExecutor.affinity", classmethod(lambda cls: 2))
    monkeypatch.setattr("shutil.which", lambda name: name)
    asked = schema.SlurmConfig(
        partition="gpu", minutes=90, gpus=2, cpus=8, memory=30, extra=["account=vision", "qos=low"]
    )
    found = sweep_slurm.executor(tmp_path, asked)._executor.parameters
    assert (found["partition"], found["time"], found["gpus_per_node"]) == ("gpu", 90, 2)
    assert (found["cpus_per_task"], found["mem"], found["job_name"]) == (8, "30GB", "deeplabx")
    assert found["additional_parameters"] == {"account": "vision", "qos": "low"}


def test_without_slurm_it_is_said(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    ended = deeplabx("train", "-m", "seed=0,1", "sweep.launcher=slurm", "hydra.sweep.dir=sweep")
    assert ended.code == 5
    assert "sweep.launcher=slurm, but there is no sbatch on this machine" in ended.err
    assert not (tmp_path / "sweep").exists()
