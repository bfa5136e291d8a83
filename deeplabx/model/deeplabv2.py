"""DeepLabv2 (1606.00915)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.model.atrous_classifier import AtrousClassifier
from deeplabx.model.contract import DeepLab
from deeplabx.model.layers import scaled_rates
from deeplabx.model.resize import rescale, resize

ATROUS_RATES = (6, 12, 18, 24)  # ASPP-L, section 4.1.2, at output stride 8


class DeepLabV2(DeepLab):
    """The sum of one classifier per atrous rate (section 3.2). The logits of several `scales` of the image
    are fused by their maximum; in training each scale has its own loss beside the fused one (section 4.1.2).
    Trained on the label of every output_stride-th pixel.

    atrous_rates: for output stride 8.
    """

    reference_stride = 8

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        atrous_rates: Sequence[int] = ATROUS_RATES,
        scales: Sequence[float] = (1.0,),
        align_corners: bool = True,
        auxiliary_weight: float | None = None,
    ) -> None:
        super().__init__(
            backbone, num_classes=num_classes, align_corners=align_corners, auxiliary_weight=auxiliary_weight
        )
        rates = scaled_rates(
            atrous_rates, output_stride=backbone.output_stride, reference_stride=self.reference_stride
        )
        self.aspp = nn.ModuleList(
            AtrousClassifier(backbone, num_classes, kernel_size=3, rate=rate, width=1024) for rate in rates
        )
        self.label_stride = backbone.output_stride
        self.scales = tuple(scales)
        if len(scales) > 1:
            self.loss_weights = (1.0, *self.loss_weights * len(scales))

    def outputs(self, images: Tensor) -> list[Tensor]:
        by_scale = [
            super(DeepLabV2, self).outputs(rescale(images, scale, align_corners=self.align_corners))
            for scale in self.scales
        ]
        if len(by_scale) == 1:
            return by_scale[0]
        largest, *_ = by_scale[self.scales.index(max(self.scales))]
        size = largest.shape[-2:]
        fused = torch.stack(
            [resize(logits, size, align_corners=self.align_corners) for logits, *_ in by_scale]
        ).amax(dim=0)
        return [fused, *(logits for outputs in by_scale for logits in outputs)] if self.training else [fused]

    def logits(self, features: Features) -> Tensor:
        return sum((branch(features.high) for branch in self.aspp[1:]), start=self.aspp[0](features.high))

    def in_head(self, parameter: str) -> bool:
        """Of fc6, fc7 and the classifier only the classifier is new: VGG has the others."""
        return ".classify." in parameter or parameter.startswith("auxiliary.")
