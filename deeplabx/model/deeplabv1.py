"""DeepLabv1 (1412.7062)."""

from typing import NamedTuple

from torch import Tensor

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.errors import ConfigError
from deeplabx.model.atrous_classifier import AtrousClassifier
from deeplabx.model.contract import DeepLab
from deeplabx.model.layers import scaled_rates


class FC6(NamedTuple):
    kernel_size: int
    rate: int  # at output stride 8
    width: int  # of fc6 and fc7


FC6S = {"large_fov": FC6(3, 12, 1024), "7x7": FC6(7, 4, 4096)}  # table 2: DeepLab-LargeFOV and DeepLab-7x7


class DeepLabV1(DeepLab):
    """fc6: large_fov or 7x7. Trained on the label of every output_stride-th pixel (section 4)."""

    reference_stride = 8

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        fc6: str = "large_fov",
        align_corners: bool = True,
        auxiliary_weight: float | None = None,
    ) -> None:
        super().__init__(
            backbone, num_classes=num_classes, align_corners=align_corners, auxiliary_weight=auxiliary_weight
        )
        if fc6 not in FC6S:
            raise ConfigError(f"model.fc6={fc6} is not one of {', '.join(FC6S)}")
        kernel_size, rate, width = FC6S[fc6]
        (rate,) = scaled_rates(
            [rate], output_stride=backbone.output_stride, reference_stride=self.reference_stride
        )
        self.classifier = AtrousClassifier(
            backbone, num_classes, kernel_size=kernel_size, rate=rate, width=width
        )
        self.label_stride = backbone.output_stride

    def logits(self, features: Features) -> Tensor:
        return self.classifier(features.high)

    def in_head(self, parameter: str) -> bool:
        """Of fc6, fc7 and the classifier only the classifier is new: VGG has the others."""
        return parameter.startswith(("classifier.classify.", "auxiliary."))
