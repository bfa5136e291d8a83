"""A second head on earlier features, whose loss helps a deep network to train (1612.01105, section 3.3)."""

from torch import nn

from deeplabx.model.layers import conv_norm_act

DROPOUT = 0.1  # of the published models, as the quarter of the channels


class AuxiliaryHead(nn.Sequential):
    """3x3 to a quarter of the channels, then the classifier. N in_channels h w to N num_classes h w."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        channels = in_channels // 4
        super().__init__(
            conv_norm_act(in_channels, channels, kernel_size=3),
            nn.Dropout(DROPOUT),
            nn.Conv2d(channels, num_classes, 1),
        )
