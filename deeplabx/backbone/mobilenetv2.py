"""MobileNetV2 (1801.04381), parameter names as torchvision has them. DeepLab takes the 320-channel output,
before the 1x1 to 1280.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from deeplabx.backbone.atrous import atrous_steps
from deeplabx.backbone.contract import MINUS_ONE_TO_ONE, Backbone, Features

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
LOW_LEVEL, MIDDLE, AUXILIARY = (
    4,
    7,
    14,
)  # how many of `features` lead to the end of stride 4, of stride 8, and of the 96-channel block


def conv_norm_relu6(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, rate: int = 1, groups: int = 1
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
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, stride: int, rate: int, residual: bool
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [conv_norm_relu6(in_channels, hidden, kernel_size=1)]
        last_norm = nn.BatchNorm2d(out_channels)
        if residual:
            nn.init.zeros_(last_norm.weight)  # the unit begins as the identity (1706.02677, section 5.1)
        self.conv = nn.Sequential(
            *expand,
            conv_norm_relu6(hidden, hidden, kernel_size=3, stride=stride, rate=rate, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            last_norm,
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def scaled(channels: int, *, width: float) -> int:
    """A number of channels times `width`, as the next multiple of 8 that is at least nine tenths of it, as
    the released code rounds.
    """
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class MobileNetV2(Backbone):
    """width multiplies every number of channels (1801.04381, section 5.1)."""

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
        units: list[nn.Module] = [conv_norm_relu6(in_channels, stem, kernel_size=3, stride=steps[0].stride)]
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
        initialize(self)

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


def initialize(backbone: nn.Module) -> None:
    """He's initialisation; a depthwise kernel sees nine inputs, so its own fan-in is the one that counts."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in" if module.groups > 1 else "fan_out")


def mobilenetv2(*, output_stride: int = 16, in_channels: int = 3, width: float = 1.0) -> MobileNetV2:
    return MobileNetV2(output_stride=output_stride, in_channels=in_channels, width=width)
