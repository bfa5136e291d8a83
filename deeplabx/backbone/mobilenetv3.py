"""MobileNetV3 (1905.02244), up to and including the 1x1 convolution before the classifier's pooling.
Parameter names are torchvision's.
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import conv_norm_act, initialize
from deeplabx.backbone.mobilenetv2 import scaled
from deeplabx.backbone.normalization import IMAGENET

EPS = 1e-3  # of every batch norm, as in the released code


class Unit(NamedTuple):
    """One row of the paper's tables 1 and 2."""

    kernel_size: int
    hidden: int
    channels: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int


RE, HS = nn.ReLU, nn.Hardswish
STEM = 16
LARGE = (
    Unit(3, 16, 16, False, RE, 1),
    Unit(3, 64, 24, False, RE, 2),
    Unit(3, 72, 24, False, RE, 1),
    Unit(5, 72, 40, True, RE, 2),
    Unit(5, 120, 40, True, RE, 1),
    Unit(5, 120, 40, True, RE, 1),
    Unit(3, 240, 80, False, HS, 2),
    Unit(3, 200, 80, False, HS, 1),
    Unit(3, 184, 80, False, HS, 1),
    Unit(3, 184, 80, False, HS, 1),
    Unit(3, 480, 112, True, HS, 1),
    Unit(3, 672, 112, True, HS, 1),
    Unit(5, 672, 160, True, HS, 2),
    Unit(5, 960, 160, True, HS, 1),
    Unit(5, 960, 160, True, HS, 1),
)
SMALL = (
    Unit(3, 16, 16, True, RE, 2),
    Unit(3, 72, 24, False, RE, 2),
    Unit(3, 88, 24, False, RE, 1),
    Unit(5, 96, 40, True, HS, 2),
    Unit(5, 240, 40, True, HS, 1),
    Unit(5, 240, 40, True, HS, 1),
    Unit(5, 120, 48, True, HS, 1),
    Unit(5, 144, 48, True, HS, 1),
    Unit(5, 288, 96, True, HS, 2),
    Unit(5, 576, 96, True, HS, 1),
    Unit(5, 576, 96, True, HS, 1),
)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the image's mean features through a quarter of the channels
    (section 5.3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels, width=0.25)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * F.hardsigmoid(self.fc2(torch.relu(self.fc1(mean))))


class InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, unit: Unit, step: Step) -> None:
        super().__init__()
        hidden, activation = unit.hidden, unit.activation
        expand = (
            []
            if hidden == in_channels
            else [conv_norm_act(in_channels, hidden, kernel_size=1, activation=activation, eps=EPS)]
        )
        depthwise = conv_norm_act(
            hidden,
            hidden,
            kernel_size=unit.kernel_size,
            stride=step.stride,
            rate=step.rate,
            groups=hidden,
            activation=activation,
            eps=EPS,
        )
        squeeze = [SqueezeExcite(hidden)] if unit.squeeze else []
        project = conv_norm_act(hidden, unit.channels, kernel_size=1, activation=None, eps=EPS)
        self.block = nn.Sequential(*expand, depthwise, *squeeze, project)
        self.residual = unit.stride == 1 and in_channels == unit.channels
        if self.residual:
            # The unit starts as the identity (1706.02677, section 5.1).
            nn.init.zeros_(project.get_parameter("1.weight"))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


def with_reduced_tail(units: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Halve the channels of the last block, except the input of its first unit (section 6.4)."""
    first = len(units) - 3
    tail = [unit._replace(channels=unit.channels // 2) for unit in units[first:]]
    return (*units[:first], tail[0], *(unit._replace(hidden=unit.hidden // 2) for unit in tail[1:]))


class MobileNetV3(Backbone):
    """reduced_tail: halve the channels of the last block, as in the released segmentation models (section
    6.4).

    dilate_strided: a unit whose stride is removed uses the new rate itself, as in torchvision's published
    segmentation models; otherwise the new rate starts with the unit after it.
    """

    normalization = IMAGENET
    separable = True
    atrous_branches = True

    def __init__(
        self,
        units: tuple[Unit, ...],
        *,
        output_stride: int,
        in_channels: int = 3,
        reduced_tail: bool = False,
        dilate_strided: bool = False,
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        units = with_reduced_tail(units) if reduced_tail else units
        stem, *steps = atrous_steps([2, *(unit.stride for unit in units)], output_stride=output_stride)
        if dilate_strided:
            steps = [step._replace(rate=step.next_rate) for step in steps]
        channels = [STEM, *(unit.channels for unit in units)]
        last = 6 * channels[-1]
        self.features = nn.Sequential(
            conv_norm_act(
                in_channels, STEM, kernel_size=3, stride=stem.stride, activation=nn.Hardswish, eps=EPS
            ),
            *(
                InvertedResidual(inputs, unit, step)
                for inputs, unit, step in zip(channels[:-1], units, steps, strict=True)
            ),
            conv_norm_act(channels[-1], last, kernel_size=1, activation=nn.Hardswish, eps=EPS),
        )
        initialize(self, mode="fan_out")
        _, to_8, _, to_32 = (index for index, unit in enumerate(units, start=1) if unit.stride == 2)
        # The middle features are those of the first unit of stride 8, not the last, as in torchvision's
        # Lite R-ASPP.
        self.ends = to_8, to_8 + 1, to_32
        self.low_level_channels, self.middle_channels, self.auxiliary_channels = (
            channels[end - 1] for end in self.ends
        )
        self.channels = last
        self.strides = [2, *(unit.stride for unit in units), 1]

    def forward(self, images: Tensor) -> Features:
        low_level_end, middle_end, auxiliary_end = self.ends
        low_level = self.features[:low_level_end](images)
        middle = self.features[low_level_end:middle_end](low_level)
        auxiliary = self.features[middle_end:auxiliary_end](middle)
        return Features(low_level, middle, auxiliary, self.features[auxiliary_end:](auxiliary))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        return zip(self.features, self.strides, strict=True)


mobilenetv3_large = partial(MobileNetV3, LARGE)
mobilenetv3_small = partial(MobileNetV3, SMALL)
