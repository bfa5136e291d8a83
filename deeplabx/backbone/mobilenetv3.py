"""MobileNetV3 (1905.02244), parameter names as torchvision has them, up to and with the 1x1 before the
classifier's pooling.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import IMAGENET, Backbone, Features
from deeplabx.backbone.mobilenetv2 import initialize, scaled

EPS = 1e-3  # of every batch norm, as in the released code


class Unit(NamedTuple):
    """A line of the paper's tables 1 and 2."""

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


def conv_norm(
    in_channels: int,
    out_channels: int,
    *activation: nn.Module,
    kernel_size: int = 1,
    stride: int = 1,
    rate: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    padding = rate * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=padding,
            dilation=rate,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels, eps=EPS),
        *activation,
    )


class SqueezeExcite(nn.Module):
    """Every channel times a gate that sees the image's mean, a quarter of the channels between the two
    (section 5.3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels, width=0.25)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        for name in ("fc1.bias", "fc2.bias"):
            nn.init.zeros_(self.get_parameter(name))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * F.hardsigmoid(self.fc2(torch.relu(self.fc1(mean))))


class InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, unit: Unit, step: Step) -> None:
        super().__init__()
        hidden, act = unit.hidden, unit.activation
        expand = [] if hidden == in_channels else [conv_norm(in_channels, hidden, act())]
        depthwise = conv_norm(
            hidden,
            hidden,
            act(),
            kernel_size=unit.kernel_size,
            stride=step.stride,
            rate=step.rate,
            groups=hidden,
        )
        squeeze = [SqueezeExcite(hidden)] if unit.squeeze else []
        project = conv_norm(hidden, unit.channels)
        self.block = nn.Sequential(*expand, depthwise, *squeeze, project)
        self.residual = unit.stride == 1 and in_channels == unit.channels
        if self.residual:
            nn.init.zeros_(
                project.get_parameter("1.weight")
            )  # the unit begins as the identity (1706.02677, section 5.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


def with_reduced_tail(units: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """The channels of the last block halved, those that its first unit takes in left alone (section 6.4)."""
    first = len(units) - 3
    tail = [unit._replace(channels=unit.channels // 2) for unit in units[first:]]
    return (*units[:first], tail[0], *(unit._replace(hidden=unit.hidden // 2) for unit in tail[1:]))


class MobileNetV3(Backbone):
    """reduced_tail: the last block has half its channels, as in the released segmentation models (section
    6.4).

    dilate_strided: a unit that lost its stride takes the new rate itself, as torchvision's published
    segmentation models were trained; otherwise the new rate begins with the unit after it.
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
            conv_norm(in_channels, STEM, nn.Hardswish(), kernel_size=3, stride=stem.stride),
            *(
                InvertedResidual(inputs, unit, step)
                for inputs, unit, step in zip(channels[:-1], units, steps, strict=True)
            ),
            conv_norm(channels[-1], last, nn.Hardswish()),
        )
        initialize(self)
        _, to_8, _, to_32 = (index for index, unit in enumerate(units, start=1) if unit.stride == 2)
        # The first unit of stride 8, not the last: Lite R-ASPP was published, by torchvision, with its
        # features
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


def mobilenetv3_large(
    *, output_stride: int = 16, in_channels: int = 3, reduced_tail: bool = False, dilate_strided: bool = False
) -> MobileNetV3:
    return MobileNetV3(
        LARGE,
        output_stride=output_stride,
        in_channels=in_channels,
        reduced_tail=reduced_tail,
        dilate_strided=dilate_strided,
    )


def mobilenetv3_small(
    *, output_stride: int = 16, in_channels: int = 3, reduced_tail: bool = False, dilate_strided: bool = False
) -> MobileNetV3:
    return MobileNetV3(
        SMALL,
        output_stride=output_stride,
        in_channels=in_channels,
        reduced_tail=reduced_tail,
        dilate_strided=dilate_strided,
    )
