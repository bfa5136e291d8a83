"""ResNet (1512.03385) with DeepLab's multi-grid and cascade. Parameter names are torchvision's, and timm's
where the stem has three convolutions.

A block's stride is in the 3x3 of its first unit (torchvision), in the first 1x1 of that unit (Caffe), or in
the 3x3 of the last unit of the block before (`beta`, DeepLab's own). The stem is PLAIN, BETA or V1C. The
Caffe networks pool in ceil mode; the Keras network, otherwise the same, does not.
"""

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import conv_norm_act, initialize
from deeplabx.backbone.normalization import CAFFE, IMAGENET
from deeplabx.errors import ConfigError

WIDTHS = (64, 128, 256, 512)
MULTI_GRID = (1, 2, 4)  # v3, section 4.1
MOST_BLOCKS = 7  # v3, section 3.2
# widths of the stem's convolutions
PLAIN = (64,)  # one 7x7
BETA = (64, 64, 128)  # three 3x3, of DeepLab's released code
V1C = (32, 32, 64)  # three 3x3, of ResNet-C (1812.01187, section 4.2)


class BasicUnit(nn.Module):
    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int, rate: int, next_rate: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=rate, dilation=rate, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=next_rate, dilation=next_rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.bn2.weight)  # the unit starts as its shortcut (1706.02677, section 5.1)
        self.downsample = shortcut(in_channels, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class BottleneckUnit(nn.Module):
    expansion = 4
    stride_first = False  # whether the first 1x1 has the stride; the 3x3 then already has the next rate

    def __init__(self, in_channels: int, width: int, *, stride: int, rate: int, next_rate: int) -> None:
        super().__init__()
        first, second, rate = (stride, 1, next_rate) if self.stride_first else (1, stride, rate)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=rate, dilation=rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        nn.init.zeros_(self.bn3.weight)  # the unit starts as its shortcut (1706.02677, section 5.1)
        self.downsample = shortcut(in_channels, width * 4, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class CaffeUnit(BottleneckUnit):
    stride_first = True


def shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Module | None:
    """A projection if the unit changes the number of channels, subsampling if it only changes the resolution,
    None if it changes neither.
    """
    if in_channels != out_channels:
        return conv_norm_act(in_channels, out_channels, kernel_size=1, stride=stride, activation=None)
    return nn.MaxPool2d(1, stride) if stride > 1 else None


def stem_of(in_channels: int, widths: Sequence[int]) -> nn.Module:
    """For one width a 7x7 convolution; for several widths a 3x3 each, with norm and ReLU between them. The
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


class Variant(NamedTuple):
    """The architecture of one ResNet."""

    unit: type[BasicUnit] | type[BottleneckUnit]
    counts: Sequence[int]  # units of each block
    stem: Sequence[int] = PLAIN  # widths of its convolutions
    stride_last: bool = False  # whether a block's stride is in the last unit of the block before
    ceil_mode: bool = False  # of the max-pooling: one more row (column) for image sides 4k and 4k - 1


class ResNet(Backbone):
    """multi_grid: rates of the units of block 4, None for DeepLabv3's, () for none. blocks: 4, or up to 7:
    copies of block 4 in cascade, each with the multi-grid (v3, section 3.2).
    """

    separable = False
    atrous_branches = True

    def __init__(
        self,
        variant: Variant,
        *,
        output_stride: int,
        in_channels: int = 3,
        multi_grid: Sequence[int] | None = None,
        blocks: int = 4,
    ) -> None:
        super().__init__()
        if not 4 <= blocks <= MOST_BLOCKS:
            raise ConfigError(f"backbone.blocks={blocks} is not 4 to {MOST_BLOCKS}")
        unit, counts, stem, stride_last, ceil_mode = variant
        counts = [*counts, *[counts[3]] * (blocks - 4)]
        widths = [*WIDTHS, *[WIDTHS[3]] * (blocks - 4)]
        grid = MULTI_GRID[: counts[3]] if multi_grid is None else multi_grid or [1] * counts[3]
        if len(grid) != counts[3]:
            raise ConfigError(
                f"backbone.multi_grid={list(grid)} must have {counts[3]} rates, one per unit of block 4"
            )
        self.normalization = CAFFE if unit is CaffeUnit else IMAGENET
        self.output_stride = output_stride
        self.low_level_channels, self.middle_channels, self.auxiliary_channels, self.channels = (
            width * unit.expansion for width in WIDTHS
        )
        self.units_after_stride = int(stride_last)

        strides = [2, 2, *unit_strides(counts, last=stride_last)]  # stem, max-pooling, units
        _, _, *steps = atrous_steps(strides, output_stride=output_stride)

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
        initialize(self, mode="fan_out")

    def forward(self, images: Tensor) -> Features:
        x = self.maxpool(F.relu(self.bn1(self.conv1(images)), inplace=True))
        reached = []  # the output of each block, or of all but its last unit where that one is strided
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
    """The strides of all units in order: every block but the first starts with a strided unit or, with
    `last`, every block but the last ends with one.
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
    """One unit per step. `multi_grid` holds a factor on the rate of each unit (v3, section 3.2.1)."""
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


# Each builder takes the keyword-only settings of `ResNet`.
resnet18 = partial(ResNet, Variant(BasicUnit, (2, 2, 2, 2)))
resnet34 = partial(ResNet, Variant(BasicUnit, (3, 4, 6, 3)))
resnet50 = partial(ResNet, Variant(BottleneckUnit, (3, 4, 6, 3)))
resnet101 = partial(ResNet, Variant(BottleneckUnit, (3, 4, 23, 3)))
resnet152 = partial(ResNet, Variant(BottleneckUnit, (3, 8, 36, 3)))
resnet50_caffe = partial(ResNet, Variant(CaffeUnit, (3, 4, 6, 3), ceil_mode=True))
resnet101_caffe = partial(ResNet, Variant(CaffeUnit, (3, 4, 23, 3), ceil_mode=True))
resnet50_keras = partial(ResNet, Variant(CaffeUnit, (3, 4, 6, 3)))
resnet50_beta = partial(ResNet, Variant(BottleneckUnit, (3, 4, 6, 3), stem=BETA, stride_last=True))
resnet101_beta = partial(ResNet, Variant(BottleneckUnit, (3, 4, 23, 3), stem=BETA, stride_last=True))
resnet50_v1c = partial(ResNet, Variant(BottleneckUnit, (3, 4, 6, 3), stem=V1C))
resnet101_v1c = partial(ResNet, Variant(BottleneckUnit, (3, 4, 23, 3), stem=V1C))
