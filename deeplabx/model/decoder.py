"""The decoder of DeepLabv3+ (1802.02611, section 3.1 and table 2)."""

import torch
from torch import Tensor, nn

from deeplabx.backbone.layers import conv_norm_act
from deeplabx.model.layers import conv3x3
from deeplabx.model.resize import resize

LOW_LEVEL_WIDTH = 48  # table 1


class Decoder(nn.Module):
    """Refine ASPP's output with features of stride 4: reduce these to 48 channels, concatenate, and apply two
    3x3 convolutions of 256 channels (table 2).
    """

    def __init__(
        self,
        in_channels: int,
        low_level_channels: int,
        channels: int = 256,
        *,
        convolutions: int = 2,
        separable: bool,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.project_low_level = conv_norm_act(low_level_channels, LOW_LEVEL_WIDTH, kernel_size=1)
        self.refine = nn.Sequential(
            conv3x3(in_channels + LOW_LEVEL_WIDTH, channels, separable=separable),
            *(conv3x3(channels, channels, separable=separable) for _ in range(convolutions - 1)),
        )
        self.align_corners = align_corners

    def forward(self, high: Tensor, low_level: Tensor) -> Tensor:
        high = resize(high, low_level.shape[-2:], align_corners=self.align_corners)  # N 256 H/4 W/4
        return self.refine(torch.cat([high, self.project_low_level(low_level)], dim=1))  # N 256 H/4 W/4
