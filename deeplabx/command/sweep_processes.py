"""Several jobs of a sweep at a time on this machine, each in a process of its own: on GPUs one each (or as
many as trainer.devices asks for), else a share of the cores each.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from deeplabx.command.job import Watch
from deeplabx.command.sweep import LOG, Ended
from deeplabx.command.sweep_job import RESULT, environment, result, words_of
from deeplabx.command.sweep_record import Sweep
from deeplabx.config.checks import device_count
from deeplabx.errors import DeviceError, PreemptedError
from deeplabx.process.cgroups import cgroup_limits
from deeplabx.process.signals import StopRequest, stopped
from deeplabx.report.sweep_jobs import FAILED, RUNNING, STOPPED, SweepJob

POLL = 0.1  # seconds between looks at the processes
AGAIN = 1.0  # seconds between repeats of a signal: a process may still be starting
KILLED = "was killed by {}, as when memory runs out"


@dataclass(frozen=True)
class Share:
    """What a job may use."""

    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them; none: what the process would use anyway
    threads: int = 1

    def environment(self) -> dict[str, str]:
        found = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(self.threads)}
        return {**found, "CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else found


def shares(jobs: int, *, devices: str, cores: list[int], limit: float, gpus: list[str]) -> list[Share]:
    """A share for each of `jobs` at a time. limit: cores that a container or batch job has. Raises
    DeviceError where there are fewer GPUs or cores than jobs.
    """
    each = device_count(devices)
    most = max(1, int(min(len(cores), limit)))
    if gpus and devices != "cpu":
        if jobs * each > len(gpus):
            asked = f"sweep.jobs={jobs}" + (f" with trainer.devices={devices}" if each > 1 else "")
            raise DeviceError(
                f"{asked} needs {jobs * each} GPUs, but there are {len(gpus)}",
                hint=f"set sweep.jobs={max(1, len(gpus) // each)}",
            )
    elif jobs > most:
        raise DeviceError(
            f"sweep.jobs={jobs}, but there are {most} cores", hint=f"set sweep.jobs={most}, or fewer"
        )
    on_gpus = gpus if devices != "cpu" else []
    count = len(cores)
    return [
        Share(
            tuple(cores[at * count // jobs : (at + 1) * count // jobs]) if count >= jobs else (),
            tuple(on_gpus[at * each : (at + 1) * each]),
            max(1, most // jobs),
        )
        for at in range(jobs)
    ]


def visible_gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # here, because only jobs at the same time need to be kept apart

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [one.strip() for one in named.split(",")] if named else [str(at) for at in range(count)]
    return names[:count]


@dataclass
class Running:
    job: SweepJob
    process: "subprocess.Popen[bytes]"
    share: Share
    sweep: Sweep
    start: float = field(default_factory=time.monotonic)


@dataclass
class Processes:
    """Jobs in processes of their own."""

    free: list[Share]
    quiet: bool = True
    running: list[Running] = field(default_factory=list)
    asked: StopRequest = field(default_factory=StopRequest)
    forwarded: float = 0.0  # when a signal was last forwarded

    @classmethod
    def prepared(cls, jobs: int, *, devices: str) -> Callable[[], Self]:
        """Raises DeviceError where this machine has too few GPUs or cores."""
        gpus = visible_gpus() if devices != "cpu" else []
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        count = cores or list(range(os.cpu_count() or 1))
        found = shares(jobs, devices=devices, cores=count, limit=cgroup_limits().cores, gpus=gpus)
        if not cores:  # a system that cannot bind processes to cores
            found = [Share((), one.gpus, one.threads) for one in found]
        return lambda: cls(found)

    @property
    def slots(self) -> int:
        """0 after a signal: nothing new is started."""
        return 0 if self.asked.number is not None else len(self.free) + len(self.running)

    def __enter__(self) -> Self:
        self.asked.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.asked.__exit__(None, None, None)

    def start(self, sweep: Sweep, job: SweepJob, watch: Watch | None) -> None:
        """The process makes a watch of its own."""
        folder, share = sweep.job_folder(job), self.free.pop(0)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                words_of(sweep, job, cores=share.cores, parent=os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment(), **share.environment()},
                start_new_session=True,  # a terminal's Ctrl-C is for the sweep, which has the jobs saved
            )
        self.running.append(Running(job, process, share, sweep))

    def wait(self, note: Callable[[], None]) -> list[tuple[SweepJob, Ended]]:
        while True:
            over = [one for one in self.running if one.process.poll() is not None]
            if over or not self.running:
                break
            self.forward()
            time.sleep(POLL)
        for one in over:
            self.running.remove(one)
            self.free.append(one.share)
        return [(one.job, self.ended(one)) for one in over]

    def forward(self) -> None:
        """Have the jobs save and end, after a signal."""
        if self.asked.number is not None and time.monotonic() - self.forwarded > AGAIN:
            self.forwarded = time.monotonic()
            for one in self.running:
                one.process.send_signal(signal.SIGTERM)

    def ended(self, one: Running) -> Ended:
        """What the process has written; of one that was killed, by what."""
        found, code = result(one.sweep.job_folder(one.job)), one.process.returncode
        if found is not None and found["status"] != RUNNING:
            return Ended(found)
        seconds = round(time.monotonic() - one.start, 1)
        if self.asked.number is not None:  # it was still starting
            fields = {"status": STOPPED, "exit_code": PreemptedError.exit_code, "error": "stopped"}
        elif code < 0:
            name = signal.Signals(-code).name
            fields = {"status": FAILED, "exit_code": DeviceError.exit_code, "error": KILLED.format(name)}
        elif code == PreemptedError.exit_code:
            words = "stopped by a signal that it got itself"
            fields = {"status": STOPPED, "exit_code": code, "error": words}
        else:
            words = f"its process ended with exit code {code} and no result"
            fields = {"status": FAILED, "exit_code": DeviceError.exit_code, "error": words}
        return Ended({**fields, "seconds": seconds})

    def refuse_stopped(self) -> None:
        number = self.asked.number
        if number is not None:
            raise stopped(number, f"{signal.Signals(number).name} received: the jobs that ran are saved")

    def stop(self) -> None:
        for one in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        self.running.clear()
