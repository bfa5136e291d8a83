"""Devices: which one a run computes on, in which precision, and how its process is started."""

from collections.abc import Callable
from typing import TypeVar

import torch

from deeplabx.errors import DeviceError

T = TypeVar("T")


def launch(worker: Callable[[], T], *, devices: str) -> T:
    """Run `worker`. One device is a plain call, so that a debugger works."""
    if devices.isdecimal() and int(devices) > 1:
        raise DeviceError(f"trainer.devices={devices}: this version trains in one process", hint="type trainer.devices=1, auto or cpu")
    return worker()


def resolve_device(devices: str) -> torch.device:
    """auto: the first GPU where there is one, else the CPU."""
    if devices == "cpu":
        return torch.device("cpu")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
