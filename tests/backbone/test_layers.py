from math import ceil, sqrt
from typing import Literal

import pytest
import torch
from torch import nn

from deeplabx.backbone.layers import conv_norm_act, initialize


@pytest.mark.parametrize(
    ("kernel_size", "stride", "rate"), [(1, 1, 1), (1, 2, 1), (3, 2, 1), (3, 1, 4), (5, 1, 2)]
)
def test_only_the_stride_changes_the_size(kernel_size: int, stride: int, rate: int) -> None:
    layer = conv_norm_act(4, 6, kernel_size=kernel_size, stride=stride, rate=rate, groups=2)
    for height, width in ((33, 64), (17, 18)):
        size = (2, 6, ceil(height / stride), ceil(width / stride))
        assert layer(torch.zeros(2, 4, height, width)).shape == size


def test_the_layer_is_convolution_norm_and_activation() -> None:
    layer = conv_norm_act(3, 5, kernel_size=1, eps=0.1).eval()
    mean = nn.init.normal_(layer.get_buffer("1.running_mean"))
    x = torch.randn(2, 3, 4, 4)
    product = torch.einsum("nchw,dc->ndhw", x, layer.get_parameter("0.weight")[:, :, 0, 0])
    linear = (product - mean[:, None, None]) / sqrt(1 + 0.1)
    assert torch.allclose(layer[:2](x), linear, atol=1e-6)
    assert torch.allclose(layer(x), linear.clamp(min=0), atol=1e-6)


def test_the_activation_can_be_chosen_or_left_out() -> None:
    assert isinstance(conv_norm_act(3, 5, kernel_size=1, activation=nn.Hardswish)[2], nn.Hardswish)
    assert len(conv_norm_act(3, 5, kernel_size=1, activation=None)) == 2


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 256 * 9), ("fan_out", 64 * 9)])
def test_a_kernel_is_drawn_by_its_fan_and_a_depthwise_one_always_by_its_own(
    mode: Literal["fan_in", "fan_out"], fan: int
) -> None:
    torch.manual_seed(0)
    dense, depthwise = nn.Conv2d(256, 64, 3), nn.Conv2d(4096, 4096, 3, groups=4096)
    initialize(nn.Sequential(dense, depthwise), mode=mode)
    assert dense.weight.std().item() == pytest.approx(sqrt(2 / fan), rel=0.02)
    assert depthwise.weight.std().item() == pytest.approx(sqrt(2 / 9), rel=0.02)
    for convolution in (dense, depthwise):
        assert convolution.bias is not None
        assert not convolution.bias.any()
