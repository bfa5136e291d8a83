"""Atrous spatial pyramid pooling with image-level features (v3, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeplabx.model.layers import conv3x3, conv_norm_act

REFERENCE_STRIDE = 16  # the output stride that atrous rates are written for in v3 and v3+
DROPOUT = 0.1  # of the released code


def scaled_rates(atrous_rates: Sequence[int], *, output_stride: int) -> list[int]:
    """Rates for an output stride other than 16: doubled at 8 (v3, section 3.3), halved at 32, at least 1."""
    return [max(1, rate * REFERENCE_STRIDE // output_stride) for rate in atrous_rates]


class ImagePooling(nn.Module):
    """The picture's mean feature, at every place."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project = conv_norm_act(in_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)  # N in_channels 1 1
        return self.project(mean).expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """1x1, a 3x3 per atrous rate, and image pooling; concatenated and projected. N in_channels h w to N channels h w."""

    def __init__(self, in_channels: int, channels: int = 256, *, atrous_rates: Sequence[int], separable: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_norm_act(in_channels, channels, kernel_size=1),
                *(conv3x3(in_channels, channels, separable=separable, rate=rate) for rate in atrous_rates),
                ImagePooling(in_channels, channels),
            ]
        )
        self.project = conv_norm_act(channels * len(self.branches), channels, kernel_size=1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        pyramid = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.dropout(self.project(pyramid))
