"""Gradients of grouped atrous convolutions in bf16 on a CPU, against float32."""

import pytest
import torch
from torch import Tensor, nn

from deeplabx.engine.grouped_atrous import GroupedAtrousInFloat32


def gradients(convolution: nn.Conv2d, images: Tensor, factors: Tensor) -> list[Tensor]:
    convolution.zero_grad()
    images = images.clone().requires_grad_()
    (convolution(images).float() * factors).sum().backward()
    assert images.grad is not None
    return [images.grad, *(one.grad.clone() for one in convolution.parameters() if one.grad is not None)]


@pytest.mark.parametrize("side", [17, 33, 45])
@pytest.mark.parametrize(
    ("groups", "rate", "kernel"), [(32, 2, 3), (32, 12, 3), (32, 4, 5), (4, 2, 3), (1, 2, 3), (32, 1, 3)]
)
def test_they_are_those_of_float32(groups: int, rate: int, kernel: int, side: int) -> None:
    """To the rounding of bf16. Without the mode, those of kernels with groups and a rate are wrong on some
    CPUs, from 33 columns on.
    """
    torch.manual_seed(0)
    convolution = nn.Conv2d(32, 32, kernel, padding=rate * (kernel // 2), dilation=rate, groups=groups).to(
        memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    images = torch.randn(2, 32, side, side).to(memory_format=torch.channels_last)
    factors = torch.randn(2, 32, side, side)
    with torch.autocast("cpu", torch.bfloat16), GroupedAtrousInFloat32():
        assert convolution(images).dtype == torch.bfloat16
        found = gradients(convolution, images, factors)
    for got, expected in zip(found, gradients(convolution, images, factors), strict=True):
        assert float((got - expected).norm() / expected.norm()) < 0.02


def test_others_are_left_to_autocast() -> None:
    dense, product = nn.Conv2d(4, 4, 3), nn.Linear(4, 4)
    with GroupedAtrousInFloat32():
        assert dense(torch.zeros(1, 4, 8, 8)).dtype == torch.float32  # without autocast nothing changes
        with torch.autocast("cpu", torch.bfloat16):
            assert dense(torch.zeros(1, 4, 8, 8)).dtype == torch.bfloat16
            assert product(torch.zeros(1, 4)).dtype == torch.bfloat16
