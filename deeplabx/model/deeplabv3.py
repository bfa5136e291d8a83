"""DeepLabv3 (1706.05587)."""

from collections.abc import Sequence

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import conv_norm_act
from deeplabx.model.aspp import ASPP, CHANNELS
from deeplabx.model.contract import DeepLab

ATROUS_RATES = (6, 12, 18)  # section 4.1, at output stride 16


class DeepLabV3(DeepLab):
    """ASPP and a classifier. separable: None for the backbone's default. atrous_rates: for output stride 16;
    None for the paper's, or for none on a backbone without atrous branches.

    image_pooling, projection_kernel: see `ASPP`. channels: of ASPP. aspp: False for the classifier alone, on
    a cascade of blocks (section 3.2). head_convolution: whether a 3x3 of `channels` precedes the classifier,
    as in torchvision's and other published models.
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
        aspp: bool = True,
        head_convolution: bool = False,
        align_corners: bool = True,
        auxiliary_weight: float | None = None,
    ) -> None:
        super().__init__(
            backbone, num_classes=num_classes, align_corners=align_corners, auxiliary_weight=auxiliary_weight
        )
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
