"""DeepLabv3+ (1802.02611)."""

from collections.abc import Sequence

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.model.aspp import ASPP, CHANNELS
from deeplabx.model.contract import DeepLab
from deeplabx.model.decoder import Decoder
from deeplabx.model.deeplabv3 import ATROUS_RATES


class DeepLabV3Plus(DeepLab):
    """DeepLabv3's ASPP, then a decoder. separable: None for the backbone's default. atrous_rates: for output
    stride 16, None for v3's.

    image_pooling, projection_kernel: see `ASPP`. channels: of ASPP and decoder. decoder_convolutions: number
    of 3x3 convolutions in the decoder (table 2).
    """

    multi_grid = None

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        separable: bool | None = None,
        atrous_rates: Sequence[int] | None = None,
        image_pooling: int | str | None = None,
        channels: int = CHANNELS,
        projection_kernel: int = 1,
        decoder_convolutions: int = 2,
        align_corners: bool = True,
        auxiliary_weight: float | None = None,
    ) -> None:
        super().__init__(
            backbone, num_classes=num_classes, align_corners=align_corners, auxiliary_weight=auxiliary_weight
        )
        separable = backbone.separable if separable is None else separable
        self.aspp = ASPP(
            backbone,
            channels,
            atrous_rates=ATROUS_RATES if atrous_rates is None else atrous_rates,
            separable=separable,
            image_pooling=image_pooling,
            projection_kernel=projection_kernel,
            align_corners=self.align_corners,
        )
        self.decoder = Decoder(
            self.aspp.channels,
            backbone.low_level_channels,
            channels,
            convolutions=decoder_convolutions,
            separable=separable,
            align_corners=self.align_corners,
        )
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def logits(self, features: Features) -> Tensor:
        return self.classify(self.decoder(self.aspp(features.high), features.low_level))  # N classes H/4 W/4
