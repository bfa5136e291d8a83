"""VainF's DeepLabV3Plus-Pytorch: DeepLabv3 and v3+ on ResNet."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.errors import CheckpointError
from deeplabx.weights.contract import Build, Conversion, Imported, renamed
from deeplabx.weights.torchvision import dilated_resnet, has, of_aspp

OF_DEEPLABV3 = {
    **of_aspp("classifier.classifier.0"),
    "convolution.0.": "classifier.classifier.1.",
    "convolution.1.": "classifier.classifier.2.",
    "classify.": "classifier.classifier.4.",
}
OF_DEEPLABV3PLUS = {
    **of_aspp("classifier.aspp"),
    "decoder.project_low_level.": "classifier.project.",
    "decoder.refine.0.": "classifier.classifier.",
    "classify.": "classifier.classifier.3.",
}
LOW_LEVEL = 48  # channels, which come first there and last here
NOTE = (
    "the file does not state its output stride; assuming the default, 16. If its name has os8, set "
    "backbone.output_stride=8"
)
MOBILENETV2 = (
    "MobileNetV2, which pads before the 1x1 that expands, not before the 3x3, unlike backbone=mobilenetv2"
)
OTHER_BACKBONES = {  # by what their names begin with: why they cannot be imported
    "backbone.low_level_features.": MOBILENETV2,
    "backbone.high_level_features.": MOBILENETV2,
    "backbone.block1.": "Chollet's Xception, which has max-pooling and no norm between depthwise and 1x1, "
    "unlike backbone=xception65",
    "backbone.stage2.": "HRNet, which is not among our backbones",
}


def vainf_deeplab(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of deeplabv3_resnet* and deeplabv3plus_resnet*. None for other names."""
    plus = has(foreign, "classifier.aspp.convs.")
    if not (plus or has(foreign, "classifier.classifier.0.convs.")):
        return None
    source = f"VainF's {'DeepLabv3+' if plus else 'DeepLabv3'}"
    refuse_what_differs(foreign, source=source)
    backbone = dilated_resnet(foreign, source=source)
    conversion = Conversion(foreign, source=f"{source} on {backbone}")
    settings: dict[str, Any] = {
        "model": "deeplabv3plus" if plus else "deeplabv3",
        **({"model.decoder_convolutions": 1} if plus else {"model.head_convolution": True}),
        "model.align_corners": False,
        "backbone": backbone,
        "backbone.output_stride": 16,
        "backbone.multi_grid": [1, 1, 1],
    }
    prefixes, classifier = (
        (OF_DEEPLABV3PLUS, "classifier.classifier.3.weight")
        if plus
        else (OF_DEEPLABV3, "classifier.classifier.4.weight")
    )
    conversion.take_network(
        build(settings, num_classes=conversion.num_classes(classifier)),
        lambda ours: renamed(ours, prefixes),
    )
    if plus:
        conversion.take(
            "decoder.refine.0.0.weight",
            "classifier.classifier.0.weight",
            low_level_last,
            words="low-level features last",
        )
    conversion.refuse_others("backbone.", "classifier.")
    return conversion.done(settings, IMAGENET, note=NOTE)


def refuse_what_differs(foreign: Mapping[str, Tensor], *, source: str) -> None:
    """Raise CheckpointError, with the reason, for a variant that none of our networks matches."""
    for prefix, reason in OTHER_BACKBONES.items():
        if has(foreign, prefix):
            raise CheckpointError(f"{source} on {reason}", hint="its networks on ResNet can be imported")
    if any(name.startswith("classifier.") and ".body." in name for name in foreign):
        raise CheckpointError(
            f"{source} with --separable_conv has no norm and ReLU between depthwise and 1x1, unlike "
            "model.separable=true",
            hint="without --separable_conv it can be imported",
        )


def low_level_last(kernel: Tensor) -> Tensor:
    return torch.cat([kernel[:, LOW_LEVEL:], kernel[:, :LOW_LEVEL]], dim=1)
