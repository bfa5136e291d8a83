"""ResNet (1512.03385) with the stride in the 3x3 convolution, parameter names as torchvision has them (timm, where the stem is deep), and
DeepLab's multi-grid."""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import IMAGENET, Backbone, Features
from deeplabx.errors import ConfigError

WIDTHS = (64, 128, 256, 512)


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

    def __init__(self, in_channels: int, width: int, *, stride: int, rate: int, next_rate: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=rate, dilation=rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.downsample = shortcut(in_channels, width * 4, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Module | None:
    """A projection where a unit changes width; every other feature where it only changes resolution; None where it changes neither."""
    if in_channels != out_channels:
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
    return nn.MaxPool2d(1, stride) if stride > 1 else None


def deep_stem() -> nn.Sequential:
    """Three 3x3 convolutions in place of the 7x7 (the released code's `beta` variant)."""
    layers: list[nn.Module] = []
    for in_channels, out_channels, stride in ((3, 64, 2), (64, 64, 1)):
        convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(64, 128, 3, padding=1, bias=False))


class ResNet(Backbone):
    """Blocks 2, 3 and 4 begin with a strided unit. `beta`, DeepLab's own: blocks 1, 2 and 3 end with one, and the stem is deep."""

    normalization = IMAGENET
    separable = False
    atrous_branches = True

    def __init__(
        self,
        unit: type[BasicUnit] | type[BottleneckUnit],
        counts: Sequence[int],
        *,
        output_stride: int,
        multi_grid: Sequence[int],
        beta: bool = False,
    ) -> None:
        super().__init__()
        if len(multi_grid) != counts[3]:
            raise ConfigError(f"backbone.multi_grid={list(multi_grid)} must have {counts[3]} rates, one per unit of the last block")
        self.output_stride = output_stride
        self.low_level_channels = WIDTHS[0] * unit.expansion
        self.low_level_units = counts[0] - 1 if beta else counts[0]  # of block 1: those of stride 4
        self.channels = WIDTHS[3] * unit.expansion

        strides = [[1] * count for count in counts]
        for block in (0, 1, 2):
            if beta:
                strides[block][-1] = 2
            else:
                strides[block + 1][0] = 2
        _, _, *steps = atrous_steps([2, 2, *itertools.chain(*strides)], output_stride=output_stride)  # convolution, max-pool, units

        in_channels = 128 if beta else 64
        self.conv1 = deep_stem() if beta else nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        blocks = []
        for width, count in zip(WIDTHS, counts, strict=True):
            grid = multi_grid if width == WIDTHS[3] else [1] * count
            blocks.append(block_of(unit, in_channels, width, steps=steps[:count], multi_grid=grid))
            in_channels, steps = width * unit.expansion, steps[count:]
        self.layer1, self.layer2, self.layer3, self.layer4 = blocks
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        low_level = self.layer1[: self.low_level_units](self.maxpool(x))
        x = self.layer1[self.low_level_units :](low_level)
        return Features(low_level, self.layer4(self.layer3(self.layer2(x))))


def block_of(
    unit: type[BasicUnit] | type[BottleneckUnit], in_channels: int, width: int, *, steps: Sequence[Step], multi_grid: Sequence[int]
) -> nn.Sequential:
    """One unit per step; `multi_grid` multiplies each unit's rate (v3, section 3.2.1)."""
    units = []
    for step, multiple in zip(steps, multi_grid, strict=True):
        units.append(unit(in_channels, width, stride=step.stride, rate=step.rate * multiple, next_rate=step.next_rate * multiple))
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


def resnet18(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 2)) -> ResNet:
    return ResNet(BasicUnit, (2, 2, 2, 2), output_stride=output_stride, multi_grid=multi_grid)


def resnet50(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 2, 4)) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 6, 3), output_stride=output_stride, multi_grid=multi_grid)


def resnet101(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 2, 4)) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 23, 3), output_stride=output_stride, multi_grid=multi_grid)


def resnet50_beta(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 2, 4)) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 6, 3), output_stride=output_stride, multi_grid=multi_grid, beta=True)


def resnet101_beta(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 2, 4)) -> ResNet:
    return ResNet(BottleneckUnit, (3, 4, 23, 3), output_stride=output_stride, multi_grid=multi_grid, beta=True)
