"""Devices and processes: which device a process computes on, in which precision, and how several processes are one run.

Several processes are started by torch's elastic launcher from inside the command, so there is one run folder, one log and one exit code.
"""

import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from deeplabx.engine.signals import Forwarding, end_with_parent
from deeplabx.errors import DeeplabxError, DeviceError, PreemptedError, StoppedError, resource_error

T = TypeVar("T")
TIMEOUT = timedelta(seconds=300)  # of a collective: a process that is waited for longer is taken for dead


# --- what a process may ask ------------------------------------------------------------------------------------------------------------


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes, logs and saves."""
    return rank() == 0


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Every world_size-th item from this process's rank on: together the processes have each item once."""
    return items[rank() :: world_size()]


def summed(values: Sequence[float]) -> list[float]:
    """Each value summed over the processes, in float64 (exact for whole numbers below 2 ** 53)."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return [float(value) for value in total]


def sum_in_place(tensor: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gathered(items: list[T]) -> list[T]:
    """The items of all processes, by rank."""
    if world_size() == 1:
        return items
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def share_buffers(model: nn.Module) -> None:
    """Give every process the main one's buffers: outside SyncBN each has batch-norm statistics of its own, and the main one's are saved."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def synchronize_norm(model: nn.Module, *, norm: str, device: torch.device) -> bool:
    """Let batch norm see the batch of all processes, in place, where `norm` says so: `sync`, and `auto` on several GPUs. Whether it does.

    Raises DeviceError for `sync` in several CPU processes, which PyTorch cannot do.
    """
    if world_size() == 1 or norm not in ("auto", "sync"):
        return False
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return True
    if norm == "sync":
        raise DeviceError("model.norm=sync in several processes needs GPUs", hint="type model.norm=auto or model.norm=frozen")
    return False


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` such that its gradients are averaged over the processes."""
    if world_size() == 1:
        return model
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def resolve_device(devices: str) -> torch.device:
    """auto: the first GPU where there is one, else the CPU; of several processes, the GPU of this one's number."""
    if devices == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device() if world_size() > 1 else 0)


def resolve_precision(precision: str, device: torch.device) -> str:
    """fp32, bf16 or fp16. auto asks the device: bf16 where it is computed in hardware (emulated, it is slower than fp32)."""
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("trainer.precision=fp16 needs a GPU", hint="type trainer.precision=fp32 or bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise DeviceError("trainer.precision=bf16 is not computed by this GPU", hint="type trainer.precision=fp16 or fp32")
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


# --- starting processes ----------------------------------------------------------------------------------------------------------------


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
    import logging

    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its report of a failure is many lines; ours follows
    logging.getLogger("torch.distributed.launcher").setLevel(logging.CRITICAL)
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
                raise asked.error("stopped before the first step") from None
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
            return DeviceError(f"rank {number} {why}", hint="out of memory? `deeplabx resume RUN` continues from the last checkpoint")
    if not reports:
        return DeviceError(f"{len(exit_codes)} processes ended without a word: exit codes {sorted(exit_codes.values())}")
    return min(reports, key=lambda report: report.time).told()
