"""Which kernels a GPU computes with: in IEEE float32 or TF32, and only those that repeat to the bit."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
ALERT = r"(\S+) does not have a deterministic implementation"
CUBLAS_ALERT = r".*uses CuBLAS"
# torch alerts for these, but each of their threads sums up one value of the gradient, in a fixed order.
REPEATING = frozenset(
    {
        "max_pool2d_with_indices_backward_cuda",
        "avg_pool2d_backward_cuda",
        "avg_pool2d_backward_out_cuda",
    }
)


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
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    convolution = cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, convolution.fp32_precision, cudnn.deterministic, cudnn.benchmark
    precision = "tf32" if tf32 else "ieee"
    matmul.fp32_precision, convolution.fp32_precision = precision, precision
    cudnn.deterministic, cudnn.benchmark = deterministic, False  # a benchmark chooses by its own timing
    try:
        yield
    finally:
        matmul.fp32_precision, convolution.fp32_precision, cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def repeating(device: torch.device) -> Iterator[set[str]]:
    """Within the block torch's operators use kernels that repeat where they have some. The set holds, after
    the block, the operators that have none. Nothing changes for a CPU.
    """
    found: set[str] = set()
    if device.type != "cuda":
        yield found
        return
    before = torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.set_deterministic_debug_mode("warn")
        memory.fill_uninitialized_memory = False
        try:
            yield found
        finally:
            torch.set_deterministic_debug_mode(before)
            memory.fill_uninitialized_memory = filled
    for warning in caught:
        words = str(warning.message)
        alert = re.match(ALERT, words)
        if alert:
            found.update({alert[1]} - REPEATING)
        elif re.match(CUBLAS_ALERT, words):
            found.add(f"matrix products, with {WORKSPACE}={os.environ.get(WORKSPACE, '')}")
        else:
            warnings.warn_explicit(words, warning.category, warning.filename, warning.lineno)
