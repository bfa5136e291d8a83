"""Aligned Xception (v3+, section 3.2 and figure 4): strided separable convolutions replace max-pooling.
Parameter names are timm's.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import RELU, conv_norm_act, initialize
from deeplabx.backbone.normalization import MINUS_ONE_TO_ONE

EPSILON = 1e-3  # of every norm, in the released code
MIDDLE = 728
# channels, stride of each entry-flow unit
ENTRY = ((128, 2), (256, 2), (MIDDLE, 2))
ENTRY_71 = ((128, 2), (256, 1), (256, 2), (MIDDLE, 1), (MIDDLE, 2))


def named_conv_norm_act(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int,
    stride: int,
    activation: Callable[[], nn.Module] | None = RELU,
) -> nn.Sequential:
    """`conv_norm_act` with the names of timm's ConvNormAct, so that timm's weights fit."""
    layers = conv_norm_act(
        in_channels, out_channels, kernel_size=kernel_size, stride=stride, activation=activation, eps=EPSILON
    )
    return nn.Sequential(OrderedDict(zip(("conv", "bn", "act"), layers, strict=False)))


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1, each with norm (1802.02611, section 3.2) and, with `relu`, ReLU."""

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
    """Three separable convolutions, each after a ReLU, and a shortcut. The third one has the stride."""

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
        # The unit starts as its shortcut (1706.02677, section 5.1).
        nn.init.zeros_(convolutions[-1].bn_pw.weight)
        self.stack = nn.Sequential()
        for number, convolution in enumerate(convolutions, start=1):
            self.stack.add_module(f"act{number}", nn.ReLU())
            self.stack.add_module(f"conv{number}", convolution)
        projected = in_channels != third or changes_resolution
        self.shortcut = (
            named_conv_norm_act(in_channels, third, kernel_size=1, stride=step.stride, activation=None)
            if projected
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before_stride(x), x)

    def before_stride(self, x: Tensor) -> Tensor:
        """The output of the second separable convolution, still at the resolution of the unit's input."""
        return self.stack[:4](x)

    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return self.stack[4:](y) + self.shortcut(x)


class LastUnit(nn.Module):
    """The last three separable convolutions of the exit flow: ReLU after each norm, no shortcut."""

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
    """entry: channels and stride of each entry-flow unit. middle: number of middle-flow units."""

    channels = 2048
    low_level_channels = 256
    middle_channels = 256
    auxiliary_channels = MIDDLE
    normalization = MINUS_ONE_TO_ONE
    separable = True
    atrous_branches = True

    def __init__(
        self, entry: Sequence[tuple[int, int]], middle: int, *, output_stride: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        plan = [  # widths and stride of each unit
            *(((channels,) * 3, stride) for channels, stride in entry),
            *[((MIDDLE,) * 3, 1)] * middle,
            ((MIDDLE, 1024, 1024), 2),
        ]
        stem, *steps = atrous_steps([2, *(stride for _, stride in plan)], output_stride=output_stride)
        self.stem = nn.Sequential(
            named_conv_norm_act(in_channels, 32, kernel_size=3, stride=stem.stride),
            named_conv_norm_act(32, 64, kernel_size=3, stride=1),
        )
        self.blocks = nn.Sequential()
        in_channels = 64
        for (widths, stride), step in zip(plan, steps, strict=True):
            self.blocks.append(XceptionUnit(in_channels, widths, step=step, changes_resolution=stride > 1))
            in_channels = widths[-1]
        self.blocks.append(LastUnit(in_channels, (1536, 1536, 2048), rate=steps[-1].next_rate))
        # The decoder's features come from inside the unit that goes from stride 4 to 8, before its stride.
        self.low_level_unit = [number for number, (_, stride) in enumerate(entry) if stride == 2][1]
        self.strides = [2, 1, *(stride for _, stride in plan), 1]
        initialize(self, mode="fan_in")

    def forward(self, images: Tensor) -> Features:
        x = self.blocks[: self.low_level_unit](self.stem(images))
        unit = cast(XceptionUnit, self.blocks[self.low_level_unit])
        low_level = unit.before_stride(x)  # N 256 H/4 W/4
        middle = unit.after(low_level, x)  # N 256 H/8 W/8
        auxiliary = self.blocks[self.low_level_unit + 1 : -2](middle)  # N 728 h w: the end of the middle flow
        return Features(low_level, middle, auxiliary, self.blocks[-2:](auxiliary))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        return zip([*self.stem, *self.blocks], self.strides, strict=True)


xception41 = partial(Xception, ENTRY, 8)
xception65 = partial(Xception, ENTRY, 16)
xception71 = partial(Xception, ENTRY_71, 16)
