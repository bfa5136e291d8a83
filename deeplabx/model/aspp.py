"""Atrous spatial pyramid pooling with image-level features (v3, section 3.3)."""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone
from deeplabx.backbone.layers import conv_norm_act
from deeplabx.model.layers import conv3x3, scaled_rates, window_mean
from deeplabx.model.resize import resize

CHANNELS = 256  # section 3.3
REFERENCE_STRIDE = 16  # output stride for which v3 and v3+ state their atrous rates
DROPOUT = 0.1  # of the released code


class ImagePooling(nn.Module):
    """The mean of all features, or of each window x window of them, projected and resized to the input's
    size.
    """

    def __init__(
        self, in_channels: int, channels: int, *, window: int | None = None, align_corners: bool = True
    ) -> None:
        super().__init__()
        self.project = conv_norm_act(in_channels, channels, kernel_size=1)
        self.window, self.align_corners = window, align_corners

    def forward(self, x: Tensor) -> Tensor:
        mean = self.project(window_mean(x, self.window))
        return (
            mean.expand(-1, -1, *x.shape[-2:])
            if self.window is None
            else resize(mean, x.shape[-2:], align_corners=self.align_corners)
        )


class ASPP(nn.Module):
    """1x1, a 3x3 per atrous rate, and image pooling; concatenated and projected. N backbone.channels h w to N
    channels h w.

    atrous_rates: for output stride 16. image_pooling: side in image pixels of the window to average, None
    for the whole image, "none" for no such branch. projection_kernel: kernel size of the projection, 1 in the
    paper.
    """

    def __init__(
        self,
        backbone: Backbone,
        channels: int = CHANNELS,
        *,
        atrous_rates: Sequence[int],
        separable: bool,
        image_pooling: int | str | None = None,
        projection_kernel: int = 1,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.channels = channels
        inputs, stride = backbone.channels, backbone.output_stride
        rates = scaled_rates(atrous_rates, output_stride=stride, reference_stride=REFERENCE_STRIDE)
        self.branches = nn.ModuleList(
            [
                conv_norm_act(inputs, channels, kernel_size=1),
                *(conv3x3(inputs, channels, separable=separable, rate=rate) for rate in rates),
            ]
        )
        if image_pooling != "none":
            window = None if image_pooling is None else ceil(int(image_pooling) / stride)
            self.branches.append(ImagePooling(inputs, channels, window=window, align_corners=align_corners))
        self.project = conv_norm_act(channels * len(self.branches), channels, kernel_size=projection_kernel)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        pyramid = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.dropout(self.project(pyramid))
