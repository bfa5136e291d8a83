"""DeepLabv3 (1706.05587)."""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.model.aspp import ASPP, CHANNELS
from deeplabx.model.contract import DeepLab, Shared
from deeplabx.model.layers import conv_norm_act

ATROUS_RATES = (6, 12, 18)  # section 4.1, at output stride 16


class DeepLabV3(DeepLab):
    """ASPP and a classifier. `separable`, `atrous_rates`: None means as the backbone says; rates are those
    for output stride 16.

    image_pooling: side in pixels of the squares that are averaged, None for the whole image. channels: of
    ASPP. projection_kernel: side of its last kernel. aspp: False leaves the classifier alone, for a cascade
    of blocks (section 3.2). head_convolution: a 3x3 of `channels` between the two, which other people's
    models have.
    """

    multi_grid = None

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        separable: bool | None = None,
        atrous_rates: Sequence[int] | None = None,
        image_pooling: int | None = None,
        channels: int = CHANNELS,
        projection_kernel: int = 1,
        aspp: bool = True,
        head_convolution: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(backbone, num_classes=num_classes, **shared)
        if atrous_rates is None:
            atrous_rates = ATROUS_RATES if backbone.atrous_branches else ()
        self.aspp: nn.Module = nn.Identity()
        inputs = backbone.channels
        if aspp:
            inputs = channels
            self.aspp = ASPP(
                backbone,
                channels,
                atrous_rates=atrous_rates,
                separable=backbone.separable if separable is None else separable,
                image_pooling=image_pooling,
                projection_kernel=projection_kernel,
                align_corners=self.align_corners,
            )
        self.convolution = (
            conv_norm_act(inputs, channels, kernel_size=3) if head_convolution else nn.Identity()
        )
        self.classify = nn.Conv2d(channels if head_convolution else inputs, num_classes, 1)

    def logits(self, features: Features) -> Tensor:
        return self.classify(self.convolution(self.aspp(features.high)))
