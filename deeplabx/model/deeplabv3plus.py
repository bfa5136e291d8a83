"""DeepLabv3+ (1802.02611)."""

from collections.abc import Sequence

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone
from deeplabx.model.aspp import ASPP, scaled_rates
from deeplabx.model.contract import DeepLab
from deeplabx.model.decoder import Decoder
from deeplabx.model.deeplabv3 import ATROUS_RATES
from deeplabx.model.layers import resize


class DeepLabV3Plus(DeepLab):
    """Normalised pictures N x 3 x H x W to logits N x num_classes x H x W, any H and W from one output stride up.

    `separable`, `atrous_rates`: None means as the backbone says. Rates are those for output stride 16 and are scaled to the backbone's.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        separable: bool | None = None,
        atrous_rates: Sequence[int] | None = None,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        separable = backbone.separable if separable is None else separable
        rates = scaled_rates(ATROUS_RATES if atrous_rates is None else atrous_rates, output_stride=backbone.output_stride)
        self.backbone = backbone
        self.aspp = ASPP(backbone.channels, atrous_rates=rates, separable=separable)
        self.decoder = Decoder(256, backbone.low_level_channels, separable=separable, align_corners=align_corners)
        self.classify = nn.Conv2d(256, num_classes, 1)
        self.align_corners = align_corners

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        refined = self.decoder(self.aspp(features.high), features.low_level)  # N 256 H/4 W/4
        return resize(self.classify(refined), images.shape[-2:], align_corners=self.align_corners)
