"""Which kernels a GPU computes with: in IEEE float32 or TF32, and only those that repeat to the bit."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
ALERT = r"(\S+) does not have a deterministic implementation"
CUBLAS_ALERT = r".*uses CuBLAS"


def fix_workspace() -> None:
    """Have cuBLAS use a workspace with which its kernels repeat. Call it before CUDA starts."""
    os.environ.setdefault(WORKSPACE, ":4096:8")


@contextmanager
def computing(device: torch.device, *, tf32: bool = False, deterministic: bool = True) -> Iterator[None]:
    """Within the block a GPU computes float32 in IEEE float32, unless `tf32`, and cuDNN uses only kernels
    that repeat, if `deterministic`. torch's own default is TF32 in convolutions. Nothing changes for a CPU.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    before = precisions(), cudnn.deterministic, cudnn.benchmark
    set_precisions(*["tf32" if tf32 else "ieee"] * 3)
    cudnn.deterministic, cudnn.benchmark = deterministic, False  # a benchmark chooses by its own timing
    try:
        yield
    finally:
        flags, cudnn.deterministic, cudnn.benchmark = before
        set_precisions(*flags)


def precisions() -> tuple[str, str, str]:
    """Of matrix products, convolutions and recurrent layers: tf32, ieee, or none for torch's general one."""
    matmul, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


def set_precisions(products: str, convolutions: str, recurrent: str) -> None:
    """torch has an older setting beside these, and raises an error in matrix products where the two differ:
    both are set.
    """
    matmul, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    matmul.allow_tf32, cudnn.allow_tf32 = products == "tf32", convolutions == "tf32"
    matmul.fp32_precision = products
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = convolutions, recurrent


@contextmanager
def repeating(device: torch.device, *, alerts: set[str] | None = None) -> Iterator[None]:
    """Within the block torch's operators use kernels that repeat where they have some. Nothing changes for a
    CPU.

    alerts: a set to which the operators that have none are added; torch does not warn of them again.
    Recording its warnings changes Python's warning filters, which all threads share, so pass a set only once.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    with nullcontext() if alerts is None else recording(alerts):
        torch.set_deterministic_debug_mode("warn")
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)
            memory.fill_uninitialized_memory = filled


@contextmanager
def recording(alerts: set[str]) -> Iterator[None]:
    """Add the operators that torch warns of within the block; other warnings are passed on after it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        words = str(warning.message)
        alert = re.match(ALERT, words)
        if alert:
            alerts.add(alert[1])
            warnings.filterwarnings("ignore", message=re.escape(alert[0]))
        elif re.match(CUBLAS_ALERT, words):
            alerts.add(f"matrix products, with {WORKSPACE}={os.environ.get(WORKSPACE, '')}")
            warnings.filterwarnings("ignore", message=CUBLAS_ALERT)
        else:
            warnings.warn_explicit(words, warning.category, warning.filename, warning.lineno)
