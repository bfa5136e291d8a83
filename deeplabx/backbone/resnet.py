"""ResNet (1512.03385) with the stride in the 3x3 convolution, parameter names as torchvision has them, and DeepLab's multi-grid."""

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


def shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential | None:
    """A projection where the unit changes width or resolution, as first units do; None elsewhere."""
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(Backbone):
    normalization = IMAGENET
    separable = False
    atrous_branches = True

    def __init__(
        self, unit: type[BasicUnit] | type[BottleneckUnit], counts: Sequence[int], *, output_stride: int, multi_grid: Sequence[int]
    ) -> None:
        super().__init__()
        if len(multi_grid) != counts[3]:
            raise ConfigError(f"backbone.multi_grid={list(multi_grid)} must have {counts[3]} rates, one per unit of the last block")
        self.output_stride = output_stride
        self.low_level_channels = WIDTHS[0] * unit.expansion
        self.channels = WIDTHS[3] * unit.expansion

        # convolution, max-pool, then one strided unit at the head of blocks 2, 3 and 4
        steps = atrous_steps([2, 2, 1, 2, 2, 2], output_stride=output_stride)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = block(unit, 64, WIDTHS[0], counts[0], step=steps[2])
        self.layer2 = block(unit, WIDTHS[0] * unit.expansion, WIDTHS[1], counts[1], step=steps[3])
        self.layer3 = block(unit, WIDTHS[1] * unit.expansion, WIDTHS[2], counts[2], step=steps[4])
        self.layer4 = block(unit, WIDTHS[2] * unit.expansion, WIDTHS[3], counts[3], step=steps[5], multi_grid=multi_grid)
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        low_level = self.layer1(self.maxpool(x))
        return Features(low_level, self.layer4(self.layer3(self.layer2(low_level))))


def block(
    unit: type[BasicUnit] | type[BottleneckUnit], in_channels: int, width: int, count: int, *, step: Step, multi_grid: Sequence[int] = ()
) -> nn.Sequential:
    """`count` units; the first carries the stride. `multi_grid` multiplies each unit's rate (v3, section 3.2.1)."""
    grid = multi_grid or [1] * count
    first = unit(in_channels, width, stride=step.stride, rate=step.rate * grid[0], next_rate=step.next_rate * grid[0])
    rest = [
        unit(width * unit.expansion, width, stride=1, rate=step.next_rate * multiple, next_rate=step.next_rate * multiple)
        for multiple in grid[1:]
    ]
    return nn.Sequential(first, *rest)


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
