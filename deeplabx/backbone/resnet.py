"""ResNet (1512.03385), parameter names as torchvision has them (timm, where the stem is deep), and DeepLab's
multi-grid and cascade.

Three placements of the strides: torchvision's, in the 3x3 of a block's first unit; Caffe's, in that unit's
first 1x1; and DeepLab's own `beta`, in the 3x3 of the last unit of the block before. Three stems: PLAIN, BETA
and V1C. Caffe's networks pool in ceil mode; Keras's, alike otherwise, do not.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import TypedDict, Unpack, cast

import torch.nn.functional as F
from torch import Tensor, nn

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import CAFFE, IMAGENET, Backbone, Features
from deeplabx.errors import ConfigError

WIDTHS = (64, 128, 256, 512)
MULTI_GRID = (1, 2, 4)  # v3, section 4.1
MOST_BLOCKS = 7  # v3, section 3.2
PLAIN = (64,)  # the stem: one 7x7
BETA = (64, 64, 128)  # of three 3x3: the released code's
V1C = (32, 32, 64)  # and that of 1812.01187, section 4.2 (ResNet-C)


class BasicUnit(nn.Module):
    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int, rate: int, next_rate: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=rate, dilation=rate, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=next_rate, dilation=next_rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(in_channels, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class BottleneckUnit(nn.Module):
    expansion = 4
    stride_first = False  # in the first 1x1, so that the 3x3 already runs at the next rate

    def __init__(self, in_channels: int, width: int, *, stride: int, rate: int, next_rate: int) -> None:
        super().__init__()
        first, second, rate = (stride, 1, next_rate) if self.stride_first else (1, stride, rate)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=rate, dilation=rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.downsample = shortcut(in_channels, width * 4, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class CaffeUnit(BottleneckUnit):
    stride_first = True


def shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Module | None:
    """A projection where a unit changes width; every other feature where it only changes resolution; None
    where it changes neither.
    """
    if in_channels != out_channels:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )
    return nn.MaxPool2d(1, stride) if stride > 1 else None


def stem_of(in_channels: int, widths: Sequence[int]) -> nn.Module:
    """A 7x7 convolution of the one width; of several widths a 3x3 each, with norm and ReLU between them. The
    first has stride 2.
    """
    if len(widths) == 1:
        return nn.Conv2d(in_channels, widths[0], 7, 2, padding=3, bias=False)
    layers: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 3, 2, padding=1, bias=False)]
    for before, width in itertools.pairwise(widths):
        layers += [
            nn.BatchNorm2d(before),
            nn.ReLU(inplace=True),
            nn.Conv2d(before, width, 3, padding=1, bias=False),
        ]
    return nn.Sequential(*layers)


class ResNet(Backbone):
    """multi_grid: the rates of the last block's units, None for DeepLabv3's, () for none. blocks: 4, or up to
    7: copies of block 4 in cascade, each with the multi-grid (v3, section 3.2). stem: the widths of its
    convolutions. stride_last: a block's stride is in the last unit of the one before. ceil_mode: of the
    max-pooling, which on sides of 4k and 4k - 1 then gives one row more.
    """

    separable = False
    atrous_branches = True

    def __init__(
        self,
        unit: type[BasicUnit] | type[BottleneckUnit],
        counts: Sequence[int],
        *,
        output_stride: int = 16,
        in_channels: int = 3,
        multi_grid: Sequence[int] | None = None,
        blocks: int = 4,
        stem: Sequence[int] = PLAIN,
        stride_last: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        if not 4 <= blocks <= MOST_BLOCKS:
            raise ConfigError(f"backbone.blocks={blocks} is not 4 to {MOST_BLOCKS}")
        counts = [*counts, *[counts[3]] * (blocks - 4)]
        widths = [*WIDTHS, *[WIDTHS[3]] * (blocks - 4)]
        grid = MULTI_GRID[: counts[3]] if multi_grid is None else multi_grid or [1] * counts[3]
        if len(grid) != counts[3]:
            raise ConfigError(
                f"backbone.multi_grid={list(grid)} must have {counts[3]} rates, one per unit of the last "
                "block"
            )
        self.normalization = CAFFE if unit is CaffeUnit else IMAGENET
        self.output_stride = output_stride
        self.low_level_channels, self.middle_channels, self.auxiliary_channels, self.channels = (
            width * unit.expansion for width in WIDTHS
        )
        self.units_after_stride = int(stride_last)

        strides = unit_strides(counts, last=stride_last)
        _, _, *steps = atrous_steps(
            [2, 2, *strides], output_stride=output_stride
        )  # convolution, max-pool, units

        self.conv1 = stem_of(in_channels, stem)
        self.bn1 = nn.BatchNorm2d(stem[-1])
        self.maxpool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=ceil_mode)
        self.depth, in_channels = blocks, stem[-1]
        for number, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
            rates = grid if number >= 4 else [1] * count
            self.add_module(
                f"layer{number}", block_of(unit, in_channels, width, steps=steps[:count], multi_grid=rates)
            )
            in_channels, steps = width * unit.expansion, steps[count:]
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        x = self.maxpool(F.relu(self.bn1(self.conv1(images)), inplace=True))
        reached = []  # what each block gives, before the stride of its last unit where it has one there
        for block in self.blocks():
            split = len(block) - self.units_after_stride
            reached.append(block[:split](x))
            x = block[split:](reached[-1])
        low_level, middle, auxiliary, *_ = reached
        return Features(low_level, middle, auxiliary, x)

    def blocks(self) -> list[nn.Sequential]:
        return [
            cast(nn.Sequential, self.get_submodule(f"layer{number}")) for number in range(1, self.depth + 1)
        ]

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        strides = unit_strides([len(block) for block in self.blocks()], last=self.units_after_stride > 0)
        units = zip(itertools.chain(*self.blocks()), strides, strict=True)
        return [(self.conv1, 2), (self.bn1, 1), (self.maxpool, 2), *units]


def unit_strides(counts: Sequence[int], *, last: bool) -> list[int]:
    """Of all units in order: each block but the first begins with a strided one, or (`last`) each block but
    the last ends with one.
    """
    strides = [[1] * count for count in counts]
    for before, after in itertools.pairwise(strides):
        if last:
            before[-1] = 2
        else:
            after[0] = 2
    return list(itertools.chain(*strides))


def block_of(
    unit: type[BasicUnit] | type[BottleneckUnit],
    in_channels: int,
    width: int,
    *,
    steps: Sequence[Step],
    multi_grid: Sequence[int],
) -> nn.Sequential:
    """One unit per step; `multi_grid` multiplies each unit's rate (v3, section 3.2.1)."""
    units = []
    for step, multiple in zip(steps, multi_grid, strict=True):
        units.append(
            unit(
                in_channels,
                width,
                stride=step.stride,
                rate=step.rate * multiple,
                next_rate=step.next_rate * multiple,
            )
        )
        in_channels = width * unit.expansion
    return nn.Sequential(*units)


def initialize(backbone: nn.Module) -> None:
    """He's initialisation, each unit beginning as the identity (1706.02677, section 5.1)."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, BasicUnit):
            nn.init.zeros_(module.bn2.weight)
        if isinstance(module, BottleneckUnit):
            nn.init.zeros_(module.bn3.weight)


class Settings(TypedDict, total=False):
    """What every ResNet takes; see `ResNet`."""

    output_stride: int
    in_channels: int
    multi_grid: Sequence[int] | None
    blocks: int


def resnet18(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BasicUnit, (2, 2, 2, 2), **settings)


def resnet34(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BasicUnit, (3, 4, 6, 3), **settings)


def resnet50(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 6, 3), **settings)


def resnet101(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 23, 3), **settings)


def resnet152(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 8, 36, 3), **settings)


def resnet50_caffe(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(CaffeUnit, (3, 4, 6, 3), ceil_mode=True, **settings)


def resnet101_caffe(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(CaffeUnit, (3, 4, 23, 3), ceil_mode=True, **settings)


def resnet50_keras(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(CaffeUnit, (3, 4, 6, 3), **settings)


def resnet50_beta(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 6, 3), stem=BETA, stride_last=True, **settings)


def resnet101_beta(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 23, 3), stem=BETA, stride_last=True, **settings)


def resnet50_v1c(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 6, 3), stem=V1C, **settings)


def resnet101_v1c(**settings: Unpack[Settings]) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 23, 3), stem=V1C, **settings)
