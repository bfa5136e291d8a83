"""Aligned Xception (v3+, section 3.2 and figure 4), parameter names as timm has them: strided separable
convolutions in place of max-pooling.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import MINUS_ONE_TO_ONE, Backbone, Features

EPSILON = 1e-3  # of every norm, in the released code
MIDDLE = 728
# channels, stride of each entry-flow unit
ENTRY = ((128, 2), (256, 2), (MIDDLE, 2))
ENTRY_71 = ((128, 2), (256, 1), (256, 2), (MIDDLE, 1), (MIDDLE, 2))


class ConvNorm(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=EPSILON)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1, each with norm (1802.02611, section 3.2); `relu` after each norm in the last
    unit only.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, rate: int, relu: bool) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=rate, dilation=rate, groups=in_channels, bias=False
        )
        self.bn_dw = nn.BatchNorm2d(in_channels, eps=EPSILON)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn_pw = nn.BatchNorm2d(out_channels, eps=EPSILON)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn_pw(self.conv_pw(self.act(self.bn_dw(self.conv_dw(x))))))


class XceptionUnit(nn.Module):
    """Three separable convolutions, the third carrying the stride, beside a shortcut; each preceded by
    ReLU.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], *, step: Step, changes_resolution: bool
    ) -> None:
        super().__init__()
        first, second, third = widths
        convolutions = [
            SeparableConv(in_channels, first, stride=1, rate=step.rate, relu=False),
            SeparableConv(first, second, stride=1, rate=step.rate, relu=False),
            SeparableConv(second, third, stride=step.stride, rate=step.rate, relu=False),
        ]
        nn.init.zeros_(
            convolutions[-1].bn_pw.weight
        )  # the unit begins as its shortcut (1706.02677, section 5.1)
        self.stack = nn.Sequential()
        for number, convolution in enumerate(convolutions, start=1):
            self.stack.add_module(f"act{number}", nn.ReLU())
            self.stack.add_module(f"conv{number}", convolution)
        projected = in_channels != third or changes_resolution
        self.shortcut = (
            ConvNorm(in_channels, third, kernel_size=1, stride=step.stride, relu=False)
            if projected
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before_stride(x), x)

    def before_stride(self, x: Tensor) -> Tensor:
        """What the second separable convolution gives: the unit's last features at the resolution of its
        input.
        """
        return self.stack[:4](x)

    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return self.stack[4:](y) + self.shortcut(x)


class LastUnit(nn.Module):
    """The exit flow's last three separable convolutions: no shortcut, ReLU after each norm."""

    def __init__(self, in_channels: int, widths: Sequence[int], *, rate: int) -> None:
        super().__init__()
        self.stack = nn.Sequential()
        for number, outputs in enumerate(widths, start=1):
            self.stack.add_module(
                f"conv{number}", SeparableConv(in_channels, outputs, stride=1, rate=rate, relu=True)
            )
            in_channels = outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x)


class Xception(Backbone):
    channels = 2048
    low_level_channels = 256
    middle_channels = 256
    auxiliary_channels = MIDDLE
    normalization = MINUS_ONE_TO_ONE
    separable = True
    atrous_branches = True

    def __init__(
        self, *, entry: Sequence[tuple[int, int]], middle: int, output_stride: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        plan = [  # widths and stride of each unit
            *(((channels,) * 3, stride) for channels, stride in entry),
            *[((MIDDLE,) * 3, 1)] * middle,
            ((MIDDLE, 1024, 1024), 2),
        ]
        stem, *steps = atrous_steps([2, *(stride for _, stride in plan)], output_stride=output_stride)
        first = ConvNorm(in_channels, 32, kernel_size=3, stride=stem.stride, relu=True)
        self.stem = nn.Sequential(first, ConvNorm(32, 64, kernel_size=3, relu=True))
        self.blocks = nn.Sequential()
        in_channels = 64
        for (widths, stride), step in zip(plan, steps, strict=True):
            self.blocks.append(XceptionUnit(in_channels, widths, step=step, changes_resolution=stride > 1))
            in_channels = widths[-1]
        self.blocks.append(LastUnit(in_channels, (1536, 1536, 2048), rate=steps[-1].next_rate))
        # The decoder takes features from inside the unit that leads from stride 4 to 8, before its stride.
        self.low_level_unit = [number for number, (_, stride) in enumerate(entry) if stride == 2][1]
        self.strides = [2, 1, *(stride for _, stride in plan), 1]
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        x = self.blocks[: self.low_level_unit](self.stem(images))
        unit = cast(XceptionUnit, self.blocks[self.low_level_unit])
        low_level = unit.before_stride(x)  # N 256 H/4 W/4
        middle = unit.after(low_level, x)  # N 256 H/8 W/8
        auxiliary = self.blocks[self.low_level_unit + 1 : -2](middle)  # N 728: the end of the middle flow
        return Features(low_level, middle, auxiliary, self.blocks[-2:](auxiliary))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        return zip([*self.stem, *self.blocks], self.strides, strict=True)


def initialize(backbone: nn.Module) -> None:
    """He's initialisation, by a kernel's own fan-in."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def xception41(*, output_stride: int = 16, in_channels: int = 3) -> Xception:
    return Xception(entry=ENTRY, middle=8, output_stride=output_stride, in_channels=in_channels)


def xception65(*, output_stride: int = 16, in_channels: int = 3) -> Xception:
    return Xception(entry=ENTRY, middle=16, output_stride=output_stride, in_channels=in_channels)


def xception71(*, output_stride: int = 16, in_channels: int = 3) -> Xception:
    return Xception(entry=ENTRY_71, middle=16, output_stride=output_stride, in_channels=in_channels)
