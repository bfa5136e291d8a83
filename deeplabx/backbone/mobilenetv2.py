"""MobileNetV2 (1801.04381). Parameter names are torchvision's. DeepLab uses the 320-channel features, before
the 1x1 convolution to 1280.
"""

from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from deeplabx.backbone.atrous import atrous_steps
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import conv_norm_act, initialize
from deeplabx.backbone.normalization import MINUS_ONE_TO_ONE

# expansion, channels, repeats, stride (1801.04381, table 2)
TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# number of `features` up to the end of stride 4, of stride 8, and of the 96-channel block
LOW_LEVEL, MIDDLE, AUXILIARY = 4, 7, 14
RELU6 = partial(nn.ReLU6, inplace=True)


class InvertedResidual(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, stride: int, rate: int, residual: bool
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = (
            [] if expansion == 1 else [conv_norm_act(in_channels, hidden, kernel_size=1, activation=RELU6)]
        )
        depthwise = conv_norm_act(
            hidden, hidden, kernel_size=3, stride=stride, rate=rate, groups=hidden, activation=RELU6
        )
        project = conv_norm_act(hidden, out_channels, kernel_size=1, activation=None)
        if residual:
            # The unit starts as the identity (1706.02677, section 5.1).
            nn.init.zeros_(project.get_parameter("1.weight"))
        self.conv = nn.Sequential(*expand, depthwise, *project)  # torchvision does not nest the last layer
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def scaled(channels: int, *, width: float) -> int:
    """channels * width, rounded to the nearest multiple of 8, at least 8, and never down by more than a
    tenth, as in the released code.
    """
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class MobileNetV2(Backbone):
    """width: factor on every number of channels (1801.04381, section 5.1)."""

    normalization = MINUS_ONE_TO_ONE
    separable = True
    atrous_branches = False

    def __init__(self, *, output_stride: int, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.output_stride = output_stride
        widths = [scaled(channels, width=width) for _, channels, _, _ in TABLE]
        _, self.low_level_channels, self.middle_channels, _, self.auxiliary_channels, _, self.channels = (
            widths
        )
        steps = atrous_steps([2, *(stride for _, _, _, stride in TABLE)], output_stride=output_stride)
        stem = scaled(32, width=width)
        units: list[nn.Module] = [
            conv_norm_act(in_channels, stem, kernel_size=3, stride=steps[0].stride, activation=RELU6)
        ]
        in_channels = stem
        for (expansion, _, repeats, stride), channels, step in zip(TABLE, widths, steps[1:], strict=True):
            for repeat in range(repeats):
                first = repeat == 0
                units.append(
                    InvertedResidual(
                        in_channels,
                        channels,
                        expansion=expansion,
                        stride=step.stride if first else 1,
                        rate=step.rate if first else step.next_rate,
                        residual=in_channels == channels and not (first and stride > 1),
                    )
                )
                in_channels = channels
        self.features = nn.Sequential(*units)
        initialize(self, mode="fan_out")

    def forward(self, images: Tensor) -> Features:
        low_level = self.features[:LOW_LEVEL](images)
        middle = self.features[LOW_LEVEL:MIDDLE](low_level)
        auxiliary = self.features[MIDDLE:AUXILIARY](middle)
        return Features(low_level, middle, auxiliary, self.features[AUXILIARY:](auxiliary))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        strides = [
            2,
            *(stride if repeat == 0 else 1 for _, _, repeats, stride in TABLE for repeat in range(repeats)),
        ]
        return zip(self.features, strides, strict=True)


def mobilenetv2(*, output_stride: int, in_channels: int = 3, width: float = 1.0) -> MobileNetV2:
    return MobileNetV2(output_stride=output_stride, in_channels=in_channels, width=width)
