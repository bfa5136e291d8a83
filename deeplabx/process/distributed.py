"""The device and precision that a process computes with, and its collective operations with the other
processes of its run.
"""

import os
import platform
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from deeplabx.errors import DeviceError
from deeplabx.process.cgroups import cgroup_limits
from deeplabx.process.signals import WATCHED, StopRequest

T = TypeVar("T")


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes, logs and saves."""
    return rank() == 0


def cores() -> int:
    """Cores that this process may use."""
    return len(allowed_cores())


def share_of_cores() -> float:
    """Cores for this process: those that it may use, each divided by the processes of the run that may use it
    too, and at most its part of the CPU limit of a container or batch job. All processes must call it.
    """
    own = allowed_cores()
    machine = platform.node()
    here = [other for name, other in gathered([(machine, own)]) if name == machine]
    shared = sum(1 / sum(core in other for other in here) for core in own)
    return min(shared, cgroup_limits().cores / len(here))


def allowed_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


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


def agreed(stop: StopRequest | None, *values: float) -> tuple[int | None, list[float]]:
    """The signal received by any process, and each value summed over the processes, in one message."""
    sent = [float(stop is not None and stop.number == number) for number in WATCHED]
    total = summed([*sent, *values])
    asked = next((int(number) for number, count in zip(WATCHED, total, strict=False) if count), None)
    return asked, total[len(WATCHED) :]


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


def broadcast(value: T) -> T:
    """The main process's value, in every process."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def broadcast_buffers(model: nn.Module) -> None:
    """Broadcast the main process's buffers: without SyncBN each process has its own batch-norm statistics,
    and the main one's are saved.
    """
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def synchronize_norm(model: nn.Module, *, norm: str, device: torch.device) -> bool:
    """Convert batch norm to SyncBN, in place, if `norm` is `sync`, or `auto` on several GPUs; return whether
    it was converted.

    Raises DeviceError for `sync` in several CPU processes, which PyTorch does not support.
    """
    if world_size() == 1 or norm not in ("auto", "sync"):
        return False
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return True
    if norm == "sync":
        raise DeviceError(
            "model.norm=sync in several processes needs GPUs",
            hint="set model.norm=auto or model.norm=frozen",
        )
    return False


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """`model`, wrapped so that gradients are averaged over the processes."""
    if world_size() == 1:
        return model
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def resolve_device(devices: str) -> torch.device:
    """auto: the first GPU if there is one, else the CPU; with several processes, the GPU of this one's local
    rank.
    """
    if devices == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device() if world_size() > 1 else 0)


def resolve_precision(precision: str, device: torch.device) -> str:
    """fp32, tf32, bf16 or fp16. auto chooses bf16 only with hardware support: emulated, it is slower than
    fp32.
    """
    if precision in ("fp16", "tf32") and device.type == "cpu":
        raise DeviceError(
            f"trainer.precision={precision} needs a GPU", hint="set trainer.precision=fp32 or bf16"
        )
    if precision == "tf32" and not torch.cuda.is_tf32_supported():
        raise DeviceError(
            "this GPU does not support trainer.precision=tf32", hint="set trainer.precision=fp32"
        )
    if (
        precision == "bf16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise DeviceError(
            "this GPU does not support trainer.precision=bf16", hint="set trainer.precision=fp16 or fp32"
        )
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return "bf16" if torch.backends.mkldnn.is_available() and cpu_multiplies_bf16() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 instructions. oneDNN reports support on any AVX-512 CPU, and emulates it."""
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
