"""The backbones by name. To add one: a file here, a line in BACKBONES, a YAML in conf/backbone/."""

from collections.abc import Callable
from typing import Any

from deeplabx.backbone.contract import Backbone, Features, Normalization
from deeplabx.backbone.efficientnet_lite import efficientnet_lite0
from deeplabx.backbone.mobilenetv2 import mobilenetv2
from deeplabx.backbone.mobilenetv3 import mobilenetv3_large, mobilenetv3_small
from deeplabx.backbone.resnet import (
    resnet18,
    resnet34,
    resnet50,
    resnet50_beta,
    resnet50_caffe,
    resnet50_keras,
    resnet50_v1c,
    resnet101,
    resnet101_beta,
    resnet101_caffe,
    resnet101_v1c,
    resnet152,
)
from deeplabx.backbone.timm_models import timm_backbone
from deeplabx.backbone.vgg import vgg16
from deeplabx.backbone.xception import xception41, xception65, xception71
from deeplabx.errors import ConfigError

RESNETS: dict[str, Callable[..., Backbone]] = {  # those with a multi-grid
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "resnet50_beta": resnet50_beta,
    "resnet101_beta": resnet101_beta,
    "resnet50_caffe": resnet50_caffe,
    "resnet101_caffe": resnet101_caffe,
    "resnet50_keras": resnet50_keras,
    "resnet50_v1c": resnet50_v1c,
    "resnet101_v1c": resnet101_v1c,
}
BACKBONES: dict[str, Callable[..., Backbone]] = {
    "mobilenetv2": mobilenetv2,
    "mobilenetv3_large": mobilenetv3_large,
    "mobilenetv3_small": mobilenetv3_small,
    **RESNETS,
    "vgg16": vgg16,
    "xception41": xception41,
    "xception65": xception65,
    "xception71": xception71,
    "efficientnet_lite0": efficientnet_lite0,
    "timm": timm_backbone,
}

__all__ = ["BACKBONES", "RESNETS", "Backbone", "Features", "Normalization", "build_backbone"]


def build_backbone(name: str, *, output_stride: int, in_channels: int = 3, **family: Any) -> Backbone:
    """A backbone of random weights. in_channels: bands of an image. `family` takes the family's own settings,
    such as multi_grid.
    """
    if name not in BACKBONES:
        raise ConfigError(f"backbone={name} is not known", hint=f"backbones: {', '.join(BACKBONES)}")
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"backbone.output_stride={output_stride} is not one of 8, 16, 32")
    return BACKBONES[name](output_stride=output_stride, in_channels=in_channels, **family)
