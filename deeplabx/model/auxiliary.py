"""An auxiliary head on earlier features; its loss helps to train deep networks (1612.01105, section 3.3)."""

from torch import nn

from deeplabx.backbone.layers import conv_norm_act

DROPOUT = 0.1  # of the published models, as is the quarter of the channels


class AuxiliaryHead(nn.Sequential):
    """A 3x3 to a quarter of the channels, then a 1x1 classifier. N in_channels h w to N num_classes h w."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        channels = in_channels // 4
        super().__init__(
            conv_norm_act(in_channels, channels, kernel_size=3),
            nn.Dropout(DROPOUT),
            nn.Conv2d(channels, num_classes, 1),
        )
