"""The convolution layer that backbones and heads are built from, and its initialisation."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

RELU = partial(nn.ReLU, inplace=True)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int,
    stride: int = 1,
    rate: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = RELU,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution, batch norm and, unless `activation` is None, activation. N in_channels H W to
    N out_channels ceil(H/stride) ceil(W/stride).
    """
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=rate * (kernel_size // 2),
            dilation=rate,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels, eps=eps),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def initialize(backbone: nn.Module, *, mode: Literal["fan_in", "fan_out"]) -> None:
    """Draw the weights of every convolution as He et al. do (1502.01852, section 2.2); set its bias to 0."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            # PyTorch's fan_out ignores groups: a depthwise kernel would get far too small weights.
            fan = "fan_in" if module.groups > 1 else mode
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
