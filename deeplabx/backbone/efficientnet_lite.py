"""EfficientNet-Lite0: EfficientNet (1905.11946) without squeeze-excite and with ReLU6. Parameter names are
those of timm's tf_efficientnet_lite0.

As with MobileNetV2, DeepLab uses the 320-channel features, before the 1x1 convolution to 1280.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from deeplabx.backbone.atrous import Step, atrous_steps
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import initialize
from deeplabx.backbone.normalization import EFFICIENTNET_LITE

EPSILON = 1e-3  # of every norm, in the released code
STEM = 32
# expansion, channels, repeats, stride, depthwise kernel size (1905.11946, table 1; expansions of MobileNetV2)
TABLE = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
# number of `blocks` up to the end of stride 4, of stride 8, and of the 112-channel block
LOW_LEVEL, MIDDLE, AUXILIARY = 2, 3, 5


class Unit(nn.Module):
    """A 1x1 that expands, unless `expansion` is 1; a depthwise convolution; a 1x1 without activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        kernel_size: int,
        stride: int,
        rate: int,
        residual: bool,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        # Symmetric padding, as in the other backbones, so that every image size and output stride is exact.
        # The published weights were trained with TensorFlow's 'SAME' padding, which is the same for odd sizes
        # and shifted by one pixel at each stride for even ones.
        padding = rate * (kernel_size // 2)
        depthwise = nn.Conv2d(
            hidden, hidden, kernel_size, stride, padding=padding, dilation=rate, groups=hidden, bias=False
        )
        narrow = nn.Conv2d(hidden, out_channels, 1, bias=False)
        last_norm = nn.BatchNorm2d(out_channels, eps=EPSILON)
        self.act = nn.ReLU6(inplace=True)
        if expansion == 1:
            self.conv_dw, self.bn1 = depthwise, nn.BatchNorm2d(hidden, eps=EPSILON)
            self.conv_pw, self.bn2 = narrow, last_norm
        else:
            self.conv_pw = nn.Conv2d(in_channels, hidden, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(hidden, eps=EPSILON)
            self.conv_dw, self.bn2 = depthwise, nn.BatchNorm2d(hidden, eps=EPSILON)
            self.conv_pwl, self.bn3 = narrow, last_norm
        if residual:
            nn.init.zeros_(last_norm.weight)  # the unit starts as the identity (1706.02677, section 5.1)
        self.expands = expansion > 1
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        if self.expands:
            y = self.act(self.bn1(self.conv_pw(x)))
            y = self.act(self.bn2(self.conv_dw(y)))
            y = self.bn3(self.conv_pwl(y))
        else:
            y = self.act(self.bn1(self.conv_dw(x)))
            y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


def block(
    in_channels: int, channels: int, *, expansion: int, repeats: int, kernel_size: int, step: Step
) -> nn.Sequential:
    """A strided unit, then residual units."""
    units = nn.Sequential()
    for repeat in range(repeats):
        first = repeat == 0
        units.append(
            Unit(
                in_channels if first else channels,
                channels,
                expansion=expansion,
                kernel_size=kernel_size,
                stride=step.stride if first else 1,
                rate=step.rate if first else step.next_rate,
                residual=not first,  # the first unit changes the number of channels
            )
        )
    return units


class EfficientNetLite(Backbone):
    channels = 320
    low_level_channels = 24
    middle_channels = 40
    auxiliary_channels = 112
    normalization = EFFICIENTNET_LITE
    separable = True
    atrous_branches = True

    def __init__(self, *, output_stride: int, in_channels: int = 3) -> None:
        super().__init__()
        self.output_stride = output_stride
        stem, *steps = atrous_steps(
            [2, *(stride for _, _, _, stride, _ in TABLE)], output_stride=output_stride
        )
        self.conv_stem = nn.Conv2d(in_channels, STEM, 3, stem.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM, eps=EPSILON)
        self.act = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        in_channels = STEM
        for (expansion, channels, repeats, _, kernel_size), step in zip(TABLE, steps, strict=True):
            self.blocks.append(
                block(
                    in_channels,
                    channels,
                    expansion=expansion,
                    repeats=repeats,
                    kernel_size=kernel_size,
                    step=step,
                )
            )
            in_channels = channels
        initialize(self, mode="fan_out")

    def forward(self, images: Tensor) -> Features:
        low_level = self.blocks[:LOW_LEVEL](self.act(self.bn1(self.conv_stem(images))))
        middle = self.blocks[LOW_LEVEL:MIDDLE](low_level)
        auxiliary = self.blocks[MIDDLE:AUXILIARY](middle)
        return Features(low_level, middle, auxiliary, self.blocks[AUXILIARY:](auxiliary))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        return [
            (self.conv_stem, 2),
            (self.bn1, 1),
            *zip(self.blocks, (stride for _, _, _, stride, _ in TABLE), strict=True),
        ]


def efficientnet_lite0(*, output_stride: int, in_channels: int = 3) -> EfficientNetLite:
    return EfficientNetLite(output_stride=output_stride, in_channels=in_channels)
