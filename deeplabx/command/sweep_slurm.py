"""The jobs of a sweep on SLURM, through submitit: each is submitted, and the process of the sweep waits for
them. A job that is preempted or reaches its time limit is saved, queued again, and continues.

Whether a job is over is read from the job.json that it writes: SLURM's own record of jobs that have ended
(sacct) is not kept everywhere. squeue says whether one without a result still exists.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from deeplabx.command.job import Watch
from deeplabx.command.sweep import LOG, Ended
from deeplabx.command.sweep_job import RESULT, environment, result, words_of
from deeplabx.command.sweep_record import Sweep
from deeplabx.config import schema
from deeplabx.errors import ConfigError, DeviceError, PreemptedError, needed, printable
from deeplabx.process.signals import StopRequest, stopped
from deeplabx.report.sweep_jobs import FAILED, QUEUED, RUNNING, STOPPED, SweepJob

CLUSTER = "slurm"  # submitit's name; its own executor for tests is "local"
FOLDER = "slurm"  # of submitit's files, in the folder of the sweep
POLL = 2.0  # seconds between looks at the jobs
PATIENCE = 60.0  # seconds for a result to appear after its job has left the queue: file systems are slow
ALL = 1_000_000  # jobs at a time, of a grid without sweep.jobs
MOST_AGAIN = 1000  # times that a job is queued again


class Work:
    """What SLURM runs: a job's process. submitit pickles it, and calls `checkpoint` before it ends."""

    def __init__(self, words: list[str], log: str, folder: str, variables: dict[str, str]) -> None:
        self.words, self.log, self.folder, self.variables = words, log, folder, variables

    def __call__(self) -> int:
        with open(self.log, "ab") as log:  # noqa: PTH123
            self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.variables},
                # submitit's signal reaches all processes of a job; this one is for the process above
                preexec_fn=ignore_submitit,
            )
        return self.waited()

    def waited(self) -> int:
        # not wait(): checkpoint is called by a signal, and would wait for the lock that wait() holds
        while (code := self.process.poll()) is None:
            time.sleep(0.2)
        return code

    def checkpoint(self) -> Any:
        """Have the job saved; what continues it."""
        import submitit

        self.process.send_signal(signal.SIGUSR1)
        self.waited()
        return submitit.helpers.DelayedSubmission(Work(self.words, self.log, self.folder, self.variables))


def ignore_submitit() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass
class Submitted:
    sweep: Sweep
    job: SweepJob
    number: str  # SLURM's of the job
    start: float = field(default_factory=time.monotonic)
    gone: float | None = None  # when it was first seen to be gone without a result


@dataclass
class Slurm:
    """Jobs that SLURM runs."""

    settings: schema.SweepConfig
    executor: Any = None
    quiet: bool = True
    running: list[Submitted] = field(default_factory=list)
    handles: dict[str, Any] = field(default_factory=dict)  # submitit's, by SLURM's number
    asked: StopRequest = field(default_factory=StopRequest)
    cancelled: bool = False

    @classmethod
    def prepared(cls, settings: schema.SweepConfig) -> Callable[[], Self]:
        """Raises ConfigError without submitit, DeviceError without SLURM."""
        needed("submitit", extra="slurm")
        if CLUSTER == "slurm" and shutil.which("sbatch") is None:
            raise DeviceError(
                "sweep.launcher=slurm, but there is no sbatch on this machine",
                hint="start it on a machine that submits jobs, or leave sweep.launcher out",
            )
        return lambda: cls(settings)

    @property
    def slots(self) -> int:
        if self.asked.number is not None:
            return 0
        return self.settings.jobs or (ALL if self.settings.trials is None else 1)

    def __enter__(self) -> Self:
        self.asked.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.asked.__exit__(None, None, None)

    def start(self, sweep: Sweep, job: SweepJob, watch: Watch | None) -> None:
        """Submit a job, or wait for the one that a sweep before this one has submitted."""
        number, folder = job.get("slurm"), sweep.job_folder(job)
        if number is not None and self.exists(number):
            print(f"job {job['job']} is in the queue already: {number}", flush=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RESULT).unlink(missing_ok=True)
            number = self.submit(sweep, job)
        job.update(slurm=number, status=QUEUED)
        self.running.append(Submitted(sweep, job, number))

    def submit(self, sweep: Sweep, job: SweepJob) -> str:
        """Raises ConfigError where SLURM refuses the job."""
        import submitit

        folder = sweep.job_folder(job)
        try:
            if self.executor is None:
                self.executor = executor(sweep.folder.absolute() / FOLDER, self.settings.slurm)
            work = Work(words_of(sweep, job), str((folder / LOG).absolute()), str(Path.cwd()), environment())
            handle = self.executor.submit(work)
        except (submitit.core.utils.FailedJobError, RuntimeError, OSError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            words = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
            raise ConfigError(
                f"SLURM refused job {job['job']}: {printable(words, 200)}",
                hint="check sweep.slurm.partition, gpus, cpus, memory, minutes and extra",
            ) from None
        self.handles[handle.job_id] = handle
        return str(handle.job_id)

    def exists(self, number: str) -> bool:
        """Whether a job waits or runs. Where SLURM does not answer, it is taken to."""
        handle = self.handles.get(number)
        if CLUSTER != "slurm":
            return handle is not None and not handle.done()
        asked = ["squeue", "--noheader", "--format=%T", f"--jobs={number}"]
        try:
            done = subprocess.run(
                asked, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return True
        if done.returncode:
            return "Invalid job id" not in done.stderr
        states = set(done.stdout.split())
        return bool(states - {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"})

    def wait(self, note: Callable[[], None]) -> list[tuple[SweepJob, Ended]]:
        while self.running:
            if self.asked.number is not None and not self.cancelled:
                self.cancelled = True
                self.cancel()
            over = [(one, ended) for one in self.running if (ended := self.ended(one, note)) is not None]
            for one, _ in over:
                self.running.remove(one)
            if over:
                return [(one.job, ended) for one, ended in over]
            time.sleep(POLL)
        return []

    def ended(self, one: Submitted, note: Callable[[], None]) -> Ended | None:
        """How a job ended; None while it waits or runs."""
        folder = one.sweep.job_folder(one.job)
        found = result(folder)
        status = found["status"] if found else QUEUED
        if found is not None and status not in (RUNNING, STOPPED):
            return Ended(found)
        if self.exists(one.number):
            shown = RUNNING if status == RUNNING else QUEUED  # one that was stopped is in the queue again
            one.gone = None
            if one.job["status"] != shown:
                one.job["status"] = shown
                note()
            return None
        found = result(folder)  # it may have written it since
        if found is not None and found["status"] not in (RUNNING, STOPPED):
            return Ended(found)
        if self.asked.number is not None:
            words = {"status": STOPPED, "exit_code": PreemptedError.exit_code, "error": "stopped"}
            return Ended({**words, "seconds": found["seconds"] if found else 0.0})
        if found is not None and found["status"] == STOPPED:  # SLURM has not queued it again
            (folder / RESULT).unlink(missing_ok=True)
            one.number = self.submit(one.sweep, one.job)
            one.job.update(slurm=one.number, status=QUEUED)
            note()
            return None
        one.gone = one.gone or time.monotonic()
        if time.monotonic() - one.gone < PATIENCE:
            return None
        log = f"{FOLDER}/{one.number}_0_log.err"
        words = {
            "status": FAILED,
            "exit_code": DeviceError.exit_code,
            "error": f"SLURM's job {one.number} ended without a result; {log} says more",
        }
        return Ended({**words, "seconds": 0.0})

    def cancel(self) -> None:
        """Have SLURM end the jobs: those that run get TERM, and are saved."""
        for one in self.running:
            handle = self.handles.get(one.number)
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                if CLUSTER != "slurm":
                    if handle is not None:
                        handle._process.terminate()
                else:
                    subprocess.run(["scancel", one.number], timeout=60, check=False)

    def refuse_stopped(self) -> None:
        number = self.asked.number
        if number is not None:
            raise stopped(number, f"{signal.Signals(number).name} received: the jobs are cancelled and saved")

    def stop(self) -> None:
        self.cancel()
        self.running.clear()


def executor(folder: Path, asked: schema.SlurmConfig) -> Any:
    """submitit's, with what each job asks for."""
    import submitit

    found = submitit.AutoExecutor(folder=folder, cluster=CLUSTER, slurm_max_num_timeout=MOST_AGAIN)
    extra = {name: value for name, _, value in (one.partition("=") for one in asked.extra or ())}
    parameters: dict[str, Any] = {
        "name": "deeplabx",
        "timeout_min": asked.minutes,
        "cpus_per_task": asked.cpus,
        "slurm_partition": asked.partition,
        "mem_gb": asked.memory,
        "gpus_per_node": asked.gpus or None,
        "slurm_additional_parameters": extra or None,
    }
    found.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
    return found
