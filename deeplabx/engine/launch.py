"""How a run's processes are started: by torch's elastic launcher, from inside the command, so there is one run folder, one log and one exit code."""

import logging
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from deeplabx.engine.signals import Forwarding, end_with_parent
from deeplabx.errors import DeeplabxError, DeviceError, PreemptedError, StoppedError, resource_error

T = TypeVar("T")
TIMEOUT = timedelta(seconds=300)  # of a collective: a process that is waited for longer is taken for dead


def launch(function: Callable[..., T], *arguments: Any, devices: str) -> T:
    """`function(*arguments)`: a plain call on one device, so that a debugger works; else in as many processes as `devices` says.

    Several processes are GPUs where there are any, else CPU processes that share the cores. The result is the main process's. `function` and
    its arguments must be picklable. Raises what the first process that failed raised, with its rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DeviceError("this process was started as one of several, by torchrun or the like", hint="type trainer.devices=N instead")
    processes = int(devices) if devices.isdecimal() else 1
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and processes > gpus:
        raise DeviceError(f"trainer.devices={devices}, but there are {gpus} GPUs", hint=f"type trainer.devices={gpus}")
    return function(*arguments) if processes == 1 else several(function, arguments, processes)


def several(function: Callable[..., T], arguments: tuple[Any, ...], processes: int) -> T:
    """`function(*arguments)` in `processes` processes of this machine."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their report of a failure is many lines; ours follows
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # it counts the semaphores of processes that were killed
    with tempfile.TemporaryDirectory(prefix="deeplabx-") as folder, Forwarding() as asked:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle="SIGHUP,SIGQUIT",  # elastic's own answer to TERM and INT would end the processes before they have saved
        )
        try:
            outcome = elastic_launch(config, in_process)(function, arguments, Path(folder))[0]
        except ChildFailedError as error:
            if asked.number is not None:
                raise asked.error("stopped before anything was saved") from None
            raise first_failure(Path(folder), {number: failure.exitcode for number, failure in error.failures.items()}) from None
    if isinstance(outcome, StoppedError | PreemptedError):
        raise asked.error(outcome.message)
    return outcome


def in_process(function: Callable[..., T], arguments: tuple[Any, ...], folder: Path) -> T | StoppedError | PreemptedError:
    """What each process runs. Having saved for a signal is an outcome, not a failure: elastic would stop the others, which are saving too."""
    end_with_parent()
    number = int(os.environ["RANK"])
    try:
        join_group()
        outcome = outcome_of(function, arguments)
        dist.barrier()
    except KeyboardInterrupt:
        Report(number, time.time(), StoppedError("interrupted at once")).write(folder)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - told by the parent, with its rank
        # Before the connections close: what the others then meet comes later than this.
        Report(number, time.time(), error, "".join(traceback.format_exception(error))).write(folder)
        sys.exit(1)
    dist.destroy_process_group()
    return outcome


def outcome_of(function: Callable[..., T], arguments: tuple[Any, ...]) -> T | StoppedError | PreemptedError:
    try:
        return function(*arguments)
    except (StoppedError, PreemptedError) as stopped:
        return stopped


def join_group() -> None:
    """Make this process one of the run's, as the launcher's environment variables say."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    else:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"])))
        backend = "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)


@dataclass(frozen=True)
class Report:
    """How a process failed, left for the parent in a folder that only this user can open."""

    rank: int
    time: float
    error: Exception
    trace: str = ""

    def write(self, folder: Path) -> None:
        try:
            content = pickle.dumps(self)
        except Exception:  # noqa: BLE001 - an error that cannot be pickled still has its words
            content = pickle.dumps(Report(self.rank, self.time, RuntimeError(f"{type(self.error).__name__}: {self.error}"), self.trace))
        (folder / f"rank-{self.rank}.failure").write_bytes(content)

    def told(self) -> Exception:
        """The error, naming the rank."""
        ours = self.error if isinstance(self.error, DeeplabxError) else resource_error(self.error)
        if ours is not None:
            ours.message = f"rank {self.rank}: {ours.message}"
            return ours
        bug = RuntimeError(f"rank {self.rank}: {type(self.error).__name__}: {self.error}")
        bug.add_note(self.trace)
        return bug


def first_failure(folder: Path, exit_codes: dict[int, int]) -> Exception:
    """Of all processes that failed, the error of the one that began it: the others fail because they waited for it."""
    reports = [pickle.loads(path.read_bytes()) for path in folder.glob("rank-*.failure")]
    ends = (-signal.SIGTERM, 0, 1)  # of processes that the launcher ended, or that left a report
    for number, code in exit_codes.items():
        if code not in ends and number not in {report.rank for report in reports}:
            why = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            return DeviceError(
                f"rank {number} {why}", hint="out of memory? A training that has saved is continued by `deeplabx resume RUN`"
            )
    if not reports:
        return DeviceError(f"{len(exit_codes)} processes ended without a word: exit codes {sorted(exit_codes.values())}")
    return min(reports, key=lambda report: report.time).told()
