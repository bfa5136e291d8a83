"""Lite R-ASPP, MobileNetV3's segmentation head (1905.02244, section 6.4)."""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import conv_norm_act
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.layers import window_mean
from deeplabx.model.resize import resize


class LRASPP(DeepLab):
    """A 1x1 of the last features, multiplied by a gate computed from their mean, then classified at stride 8
    together with the features of that stride (figure 10).

    pooling: side in image pixels of the window to average, None for the whole image. pooling_stride: from one
    window to the next, in features, [down, across]. The released models use output stride 32, pooling 769
    and pooling_stride [4, 5].
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        channels: int = 128,
        pooling: int | None = None,
        pooling_stride: Sequence[int] = (1, 1),
        align_corners: bool = True,
        auxiliary_weight: float | None = None,
    ) -> None:
        super().__init__(
            backbone, num_classes=num_classes, align_corners=align_corners, auxiliary_weight=auxiliary_weight
        )
        if len(pooling_stride) != 2:
            raise ConfigError(
                f"model.pooling_stride={list(pooling_stride)} must be [down,across]",
                hint="for example model.pooling_stride=[4,5]",
            )
        if pooling is None and list(pooling_stride) != [1, 1]:
            raise ConfigError(
                f"model.pooling_stride={list(pooling_stride)}, but model.pooling=null averages the whole "
                "image",
                hint="set model.pooling too, for example model.pooling=769",
            )
        self.window = ceil(pooling / backbone.output_stride) if pooling else None
        self.pooling_stride = (pooling_stride[0], pooling_stride[1])
        self.project = conv_norm_act(backbone.channels, channels, kernel_size=1)
        self.gate = nn.Conv2d(backbone.channels, channels, 1, bias=False)
        self.classify = nn.Conv2d(channels, num_classes, 1)
        self.classify_middle = nn.Conv2d(backbone.middle_channels, num_classes, 1)

    def logits(self, features: Features) -> Tensor:
        middle, high = features.middle, features.high
        mean = window_mean(high, self.window, stride=self.pooling_stride)  # of the image, or of each window
        gate = torch.sigmoid(self.gate(mean))  # N channels 1 1, or one per window
        if self.window is not None:
            gate = resize(gate, high.shape[-2:], align_corners=self.align_corners)
        high = resize(
            self.project(high) * gate, middle.shape[-2:], align_corners=self.align_corners
        )  # N channels H/8 W/8
        return self.classify(high) + self.classify_middle(middle)
