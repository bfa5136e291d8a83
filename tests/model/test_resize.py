"""The resize with an own gradient, which CPUs compute here as GPUs do, against torch's own and a loop."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplabx.model import resize as module
from deeplabx.model.resize import Bilinear, native, rescale, resize

SIZES = [  # from, to: up, down, one pixel, one axis alone
    ((5, 7), (13, 9)),
    ((13, 9), (5, 7)),
    ((1, 1), (4, 6)),
    ((4, 6), (1, 1)),
    ((1, 5), (3, 5)),
    ((6, 6), (6, 11)),
]


def test_align_corners_keeps_the_corners() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    y = resize(x, (9, 13), align_corners=True)
    assert torch.equal(y[..., ::4, ::4], x)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (161, 17)), (0.75, (241, 25)), (1.0, (321, 33))])
def test_rescaling_with_align_corners_scales_the_distance_of_the_corners(
    scale: float, size: tuple[int, int]
) -> None:
    x = torch.arange(321.0)[:, None].expand(321, 33)[None, None]
    y = rescale(x, scale, align_corners=True)
    assert y.shape[-2:] == size
    assert torch.allclose(y[0, 0, :, 0], torch.linspace(0, 320, size[0]), atol=1e-3)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_the_gradient_is_the_derivative(
    before: tuple[int, int], after: tuple[int, int], align_corners: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *before, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Bilinear.apply(x, list(after), None, align_corners), x)


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5])
def test_the_gradient_of_a_factor_is_the_derivative(scale: float) -> None:
    """11 x 0.75 is 8.25: the factor of the coordinates is not that of the sizes."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 11, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Bilinear.apply(x, None, [scale, scale], False), x)


def gradient_of(resized: Any, x: Tensor, output_gradient: Tensor, *arguments: Any) -> Tensor:
    x = x.detach().requires_grad_()
    resized(x, *arguments).backward(output_gradient)
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("before", "after"), [*SIZES, ((33, 17), (129, 65))])
def test_values_and_gradient_are_torchs(
    before: tuple[int, int], after: tuple[int, int], align_corners: bool, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, *before).to(memory_format=memory_format)
    gradient = torch.randn(2, 5, *after).to(memory_format=memory_format)
    arguments = (list(after), None, align_corners)
    expected = F.interpolate(x, after, mode="bilinear", align_corners=align_corners)
    assert torch.equal(Bilinear.apply(x, *arguments), expected)
    found = gradient_of(Bilinear.apply, x, gradient, *arguments)
    exact = gradient_of(native, x.double(), gradient.double(), *arguments)
    assert found.dtype == torch.float32
    assert float((found - exact).norm() / exact.norm()) < 1e-5
    assert torch.equal(found, gradient_of(Bilinear.apply, x, gradient, *arguments))


def test_autocast_does_not_reach_the_gradient() -> None:
    """Rounding the result to bf16 costs 1.7e-3; products in bf16 have a larger error. From 9 to 30 pixels the
    weights are not numbers of bf16, as they would be from 9 to 33.
    """
    torch.manual_seed(0)
    x, gradient = (torch.randn(2, 8, side, side).bfloat16() for side in (9, 30))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradient_of(Bilinear.apply, x, gradient, [30, 30], None, True)
    exact = gradient_of(native, x.double(), gradient.double(), [30, 30], None, True)
    assert found.dtype == torch.bfloat16
    assert float((found.double() - exact).norm() / exact.norm()) < 2e-3


def test_a_model_has_the_same_gradient_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    loss_gradient = torch.randn(2, 3, 33, 33, dtype=torch.float64)

    def chained(x: Tensor) -> Tensor:
        return resize(resize(x, (17, 17), align_corners=True) * x.mean(), (33, 33), align_corners=True)

    expected = gradient_of(chained, x, loss_gradient)
    used = []

    def needed(x: Tensor) -> bool:
        used.append(x.shape)
        return True

    monkeypatch.setattr(module, "needs_own_backward", needed)
    assert torch.allclose(gradient_of(chained, x, loss_gradient), expected, rtol=1e-12, atol=1e-12)
    assert len(used) == 2
