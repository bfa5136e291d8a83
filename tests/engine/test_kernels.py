"""The flags that a GPU's kernels are chosen by; they can be asked for without a GPU."""

import os
import warnings
from typing import Any

import pytest
import torch

from deeplabx.engine import kernels
from deeplabx.engine.kernels import computing, fix_workspace, repeating

CUDA = torch.device("cuda")


def flags() -> dict[str, Any]:
    """torch's, by the names that other programs know them by."""
    return {
        "tf32 in matrix products": torch.backends.cuda.matmul.allow_tf32,
        "tf32 in convolutions": torch.backends.cudnn.allow_tf32,
        "matmul": torch.backends.cuda.matmul.fp32_precision,
        "conv": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "rnn": torch.backends.cudnn.rnn.fp32_precision,  # type: ignore[attr-defined]
        "deterministic": torch.backends.cudnn.deterministic,
        "benchmark": torch.backends.cudnn.benchmark,
        "mode": torch.get_deterministic_debug_mode(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    }


def inside() -> tuple[str, str, bool]:
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"  # an error if the two differ
    assert precision == torch.backends.cuda.matmul.fp32_precision
    assert torch.backends.cudnn.allow_tf32 == (flags()["conv"] == "tf32")
    return precision, flags()["conv"], torch.backends.cudnn.deterministic


def test_float32_is_ieee_float32_unless_tf32_is_asked_for() -> None:
    before = flags()
    assert before["tf32 in convolutions"]  # torch's own default
    with computing(CUDA):
        assert inside() == ("ieee", "ieee", True)
        with computing(CUDA, tf32=True, deterministic=False):
            assert inside() == ("tf32", "tf32", False)
        assert inside() == ("ieee", "ieee", True)
    assert flags() == before
    with pytest.raises(ZeroDivisionError), computing(CUDA), repeating(CUDA):
        raise ZeroDivisionError
    assert flags() == before


def test_a_program_that_uses_tf32_goes_on_with_it() -> None:
    before = flags()
    torch.backends.cuda.matmul.allow_tf32 = True
    with computing(CUDA):
        assert inside() == ("ieee", "ieee", True)
    assert torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.fp32_precision = before["matmul"]
    assert flags() == before


def test_nothing_changes_for_a_cpu() -> None:
    before = flags()
    with computing(torch.device("cpu"), tf32=True), repeating(torch.device("cpu")):
        assert flags() == before


def alert(operator: str) -> None:
    """What torch says of an operator in this mode."""
    warnings.warn(
        f"{operator} does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True, warn_only=True)'.",
        stacklevel=1,
    )


def test_operators_without_a_kernel_that_repeats_are_named() -> None:
    found: set[str] = set()
    with warnings.catch_warnings(record=True, action="always") as others:
        with repeating(CUDA, alerts=found):
            assert torch.get_deterministic_debug_mode() == 1
            alert("grid_sampler_2d_backward_cuda")
            warnings.warn("something else", stacklevel=1)
        with repeating(CUDA):  # later steps: it is known
            alert("grid_sampler_2d_backward_cuda")
    assert found == {"grid_sampler_2d_backward_cuda"}
    assert [str(other.message) for other in others] == ["something else"]


def test_torch_says_it_in_these_words() -> None:
    """On the CPU of this operator too."""
    found: set[str] = set()
    with warnings.catch_warnings(), repeating(CUDA, alerts=found):
        torch.zeros(4).put_(torch.tensor([0]), torch.tensor([1.0]))
    assert found == {"put_"}


def test_a_workspace_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kernels.WORKSPACE, raising=False)
    fix_workspace()
    assert os.environ[kernels.WORKSPACE] == ":4096:8"
    monkeypatch.setenv(kernels.WORKSPACE, ":16:8")
    fix_workspace()
    assert os.environ[kernels.WORKSPACE] == ":16:8"
