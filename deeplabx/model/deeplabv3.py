"""DeepLabv3 (1706.05587)."""

from collections.abc import Sequence

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone
from deeplabx.model.aspp import ASPP, scaled_rates
from deeplabx.model.contract import DeepLab
from deeplabx.model.layers import resize

ATROUS_RATES = (6, 12, 18)  # section 4.1, at output stride 16


class DeepLabV3(DeepLab):
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
        if atrous_rates is None:
            atrous_rates = ATROUS_RATES if backbone.atrous_branches else ()
        self.backbone = backbone
        self.aspp = ASPP(
            backbone.channels,
            atrous_rates=scaled_rates(atrous_rates, output_stride=backbone.output_stride),
            separable=backbone.separable if separable is None else separable,
        )
        self.classify = nn.Conv2d(256, num_classes, 1)
        self.align_corners = align_corners

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        logits = self.classify(self.aspp(features.high))  # N classes h w
        return resize(logits, images.shape[-2:], align_corners=self.align_corners)
