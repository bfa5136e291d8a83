"""Starting the processes of a run.

`trainer.devices=N` starts them with torch's elastic launcher, from inside the command, so there is one run
folder, one log and one exit code. Processes started by torchrun or SLURM join one group: the main one reads
the command line and sends the others their work.
"""

import atexit
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import distributed as dist

from deeplabx.errors import (
    ConfigError,
    DeeplabxError,
    DeviceError,
    PeerFailedError,
    PreemptedError,
    StoppedError,
    resource_error,
)
from deeplabx.process import meeting
from deeplabx.process.cluster import place
from deeplabx.process.distributed import broadcast, cores, rank
from deeplabx.process.memory import keep_freed_memory
from deeplabx.process.signals import WATCHED, Forwarding, end_with_parent
from deeplabx.process.terminal import show_any_text

T = TypeVar("T")
# Of a collective. A process that takes longer is considered dead; one may wait for its data for ten minutes
# (deeplabx.dataset.arrivals) while the others wait for it, and then says so itself.
TIMEOUT = timedelta(seconds=900)


def launch(
    function: Callable[..., T],
    *arguments: Any,
    devices: str,
    backend: str = "auto",
    max_restarts: int = 0,
    prepare: Callable[[], None] | None = None,
) -> T:
    """Call `function(*arguments)`: directly on one device, so that a debugger works; else in `devices`
    processes, or in those that torchrun or SLURM started.

    Several processes use GPUs if there are any; else they are CPU processes that share the cores. Returns the
    main process's result. `function` and its arguments must be picklable. Raises the error of the first
    process that failed, with its rank. backend: auto, NCCL for tensors on GPUs and gloo for the others; or
    gloo for all, with which several processes may share a GPU. max_restarts: how often all processes are
    restarted after one is lost (killed, or disconnected); an error of deeplabx would only recur, and ends the
    run. prepare: called in each started process before `function` and its arguments are unpickled.
    """
    processes = int(devices) if devices.isdecimal() else 1
    there = place(os.environ).world_size
    if there > 1:
        if processes not in (1, there):
            raise DeviceError(
                f"trainer.devices={devices}, but {there} processes were started",
                hint="set trainer.devices=auto",
            )
        if backend != "auto":
            raise DeviceError(
                f"trainer.backend={backend}, but {there} processes were started and have a backend already",
                hint="set trainer.backend=auto, or start them with trainer.devices",
            )
        return as_one(function, arguments)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and processes > gpus and backend != "gloo":
        raise DeviceError(
            f"trainer.devices={devices}, but there are {gpus} GPUs", hint=f"set trainer.devices={gpus}"
        )
    if processes == 1:
        return function(*arguments)
    job = Work(pickle.dumps((function, arguments)), prepare, backend)
    return several(job, processes, max_restarts)


def as_one(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """Call `function(*arguments)` in this process and in its followers."""
    if not dist.is_initialized():
        join_group()
    broadcast((function, arguments))
    return in_step(function, arguments)


def follow() -> None:
    """The loop of every process but the main one under torchrun or SLURM: run what the main one sends until
    it dismisses this one.
    """
    join_group()
    while (job := broadcast(None)) is not None:
        in_step(*job)
    dist.destroy_process_group()


def dismiss(*, failed: bool) -> None:
    """Let the followers of this process exit. failed: this one ends with an error; if they worked together,
    the others raised it too.
    """
    if failed and dist.is_initialized():
        return
    if not dist.is_initialized():
        join_group()
    broadcast(None)
    dist.destroy_process_group()


def in_step(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """Call `function(*arguments)` in each process of the group; all wait until every one is done. An error
    names the rank.
    """
    try:
        result = function(*arguments)
        dist.barrier()
    except (StoppedError, PreemptedError):
        raise  # the same in all processes
    except DeeplabxError as error:
        error.message = f"rank {rank()}: {error.message}"
        raise
    except (dist.DistError, RuntimeError) as error:
        full = resource_error(error)  # NCCL's lack of memory too
        if full is not None:
            full.message = f"rank {rank()}: {full.message}"
            raise full from None
        words = " ".join(str(error).split())[:200]
        if isinstance(error, dist.DistError) or any(name in words for name in ("gloo", "NCCL", "Connection")):
            raise DeviceError(f"rank {rank()}: another process of the job exited: {words}") from None
        raise
    return result


def restarts() -> int:
    """How often the launcher has restarted this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@dataclass(frozen=True)
class Work:
    """A function and its arguments, pickled, what must be called before they can be unpickled, and the
    backend of the processes.
    """

    pickled: bytes
    prepare: Callable[[], None] | None
    backend: str

    def unpickled(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.prepare is not None:
            self.prepare()
        try:
            return pickle.loads(self.pickled)
        except (AttributeError, ModuleNotFoundError) as error:  # a class of a notebook
            raise ConfigError(
                f"a worker process cannot import your class: {error}",
                hint="move it to a Python file and set plugins=FILE",
            ) from None


def several(work: Work, processes: int, max_restarts: int) -> Any:
    """Run the work in `processes` processes on this machine."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with quiet(), tempfile.TemporaryDirectory(prefix="deeplabx-") as folder, Forwarding() as asked:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=max_restarts,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            # elastic's own handlers for TERM, INT and HUP would end the processes before they have saved
            signals_to_handle="SIGQUIT",
        )
        try:
            outcome = elastic_launch(config, in_process)(work, Path(folder))[0]
        except ChildFailedError as error:
            if asked.number is not None and not any(
                would_come_again(report.error) for report in read_reports(Path(folder))
            ):
                raise asked.error("stopped immediately, not saved") from None
            raise first_failure(
                Path(folder), {number: failure.exitcode for number, failure in error.failures.items()}
            ) from None
    if isinstance(outcome, StoppedError | PreemptedError):
        raise asked.error(outcome.message)
    return outcome


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the launcher's own report of a failure, which is many lines, and its warnings about semaphores
    of killed processes. Both settings are restored.
    """
    loggers = [
        logging.getLogger(name)
        for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing")
    ]
    levels, warnings = [one.level for one in loggers], os.environ.get("PYTHONWARNINGS")
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        if warnings is None:
            os.environ.pop("PYTHONWARNINGS", None)


def in_process(work: Work, folder: Path) -> Any:
    """The code that each process runs. A save on a signal is returned as a result, not raised: otherwise
    elastic would stop the other processes, which are still saving.
    """
    end_with_parent()
    show_any_text()
    keep_freed_memory()
    # Loader workers start as in a run of one process. A spawned process would spawn them too, which takes
    # seconds each, and waits forever for one that is killed while it starts and has a long list of files to
    # read.
    multiprocessing.set_start_method(None, force=True)
    number = int(os.environ["RANK"])
    at_end = ExitStack()
    atexit.register(at_end.close)  # before a plug-in registers anything, which therefore runs first
    refuse_what_would_come_again(number, folder)
    try:
        function, arguments = work.unpickled()
        join_group(work.backend)
        outcome = outcome_of(function, arguments)
        for watched in (
            WATCHED
        ):  # the launcher waits forever for a process that dies after its result and before its exit
            signal.signal(watched, signal.SIG_IGN)
        dist.barrier()
    except KeyboardInterrupt:
        Report(number, time.time(), StoppedError("interrupted immediately")).write(folder)
        leave(1)
    except Exception as error:  # noqa: BLE001 - the parent raises it, with its rank
        # Written before the connections close, so that the errors this causes in the others are later.
        Report(number, time.time(), error, "".join(traceback.format_exception(error))).write(folder)
        leave(1)
    dist.destroy_process_group()
    # The launcher waits for the end of this process, and the interpreter's own takes half a second.
    at_end.callback(leave, 0)
    return outcome


def leave(code: int) -> NoReturn:
    """End this process at once. The interpreter's own end would close the connections of a process group that
    the others still use, and their threads sometimes abort the process (SIGABRT).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def refuse_what_would_come_again(number: int, folder: Path) -> None:
    """In a restarted group: exit if the previous attempt failed with an error that would recur, else delete
    its report.
    """
    reports = read_reports(folder)
    if any(would_come_again(report.error) for report in reports):
        sys.exit(1)
    (folder / f"rank-{number}.failure").unlink(missing_ok=True)


def would_come_again(error: Exception) -> bool:
    """Whether an error would recur, unlike a lost process or a stop signal."""
    return isinstance(error, DeeplabxError) and not isinstance(error, StoppedError | PreemptedError)


def outcome_of(function: Callable[..., T], arguments: tuple[Any, ...]) -> T | StoppedError | PreemptedError:
    try:
        return function(*arguments)
    except (StoppedError, PreemptedError) as stopped:
        return stopped


def join_group(backend: str = "auto") -> None:
    """Join the process group that the launcher's environment variables describe. backend: as of `launch`."""
    if torch.cuda.is_available():
        # A SLURM task may see only its own GPU.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        chosen = "cpu:gloo,cuda:nccl" if backend == "auto" else backend
    else:
        torch.set_num_threads(max(1, cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
        chosen = "gloo"
    meeting.join(chosen, timeout=TIMEOUT)


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
        except Exception:  # noqa: BLE001 - if the error cannot be pickled, keep its message
            content = pickle.dumps(
                Report(
                    self.rank,
                    self.time,
                    RuntimeError(f"{type(self.error).__name__}: {self.error}"),
                    self.trace,
                )
            )
        (folder / f"rank-{self.rank}.failure").write_bytes(content)

    def with_rank(self) -> Exception:
        """The error, with its rank."""
        if isinstance(self.error, BrokenPipeError):  # the reader of what is printed has left, as `head` does
            return self.error
        ours = self.error if isinstance(self.error, DeeplabxError) else resource_error(self.error)
        if ours is not None:
            ours.message = f"rank {self.rank}: {ours.message}"
            return ours
        bug = RuntimeError(f"rank {self.rank}: {type(self.error).__name__}: {self.error}")
        bug.add_note(self.trace)
        return bug


def read_reports(folder: Path) -> list[Report]:
    return [pickle.loads(path.read_bytes()) for path in folder.glob("rank-*.failure")]


def first_failure(folder: Path, exit_codes: dict[int, int]) -> Exception:
    """The error of the process that failed first: the others fail because they were waiting for it."""
    reports = read_reports(folder)
    ends = (-signal.SIGTERM, 0, 1)  # of processes that the launcher stopped, or that wrote a report
    for number, code in exit_codes.items():
        if code not in ends and number not in {report.rank for report in reports}:
            why = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
            return DeviceError(
                f"rank {number} {why}",
                hint="out of memory? If a checkpoint was saved, continue with `deeplabx resume RUN`",
            )
    if not reports:
        return DeviceError(
            f"{len(exit_codes)} processes exited without an error report: exit codes "
            f"{sorted(exit_codes.values())}"
        )
    return min(
        reports, key=lambda report: (isinstance(report.error, PeerFailedError), report.time)
    ).with_rank()
