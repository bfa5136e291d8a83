"""DeepLabv3 (1706.05587)."""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.model.aspp import ASPP
from deeplabx.model.contract import DeepLab, Shared
from deeplabx.model.layers import conv_norm_act

ATROUS_RATES = (6, 12, 18)  # section 4.1, at output stride 16
CHANNELS = 256  # of ASPP (section 3.3)


class DeepLabV3(DeepLab):
    """ASPP and a classifier. `separable`, `atrous_rates`: None means as the backbone says; rates are those for output stride 16.

    image_pooling: side in pixels of the squares that are averaged, None for the whole picture. aspp: False leaves the classifier alone, for a cascade
    of blocks (section 3.2). head_convolution: a 3x3 of 256 between the two, which other people's models have.
    """

    multi_grid = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        separable: bool | None = None,
        atrous_rates: Sequence[int] | None = None,
        image_pooling: int | None = None,
        aspp: bool = True,
        head_convolution: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(backbone, num_classes=num_classes, **shared)
        if atrous_rates is None:
            atrous_rates = ATROUS_RATES if backbone.atrous_branches else ()
        self.aspp: nn.Module = nn.Identity()
        channels = backbone.channels
        if aspp:
            channels = CHANNELS
            self.aspp = ASPP(
                backbone,
                channels,
                atrous_rates=atrous_rates,
                separable=backbone.separable if separable is None else separable,
                image_pooling=image_pooling,
                align_corners=self.align_corners,
            )
        self.convolution = conv_norm_act(channels, CHANNELS, kernel_size=3) if head_convolution else nn.Identity()
        self.classify = nn.Conv2d(CHANNELS if head_convolution else channels, num_classes, 1)

    def logits(self, features: Features) -> Tensor:
        return self.classify(self.convolution(self.aspp(features.high)))
