"""The backbones by name. To add one: a file here, a line in BACKBONES, a YAML in conf/backbone/."""

from collections.abc import Callable
from typing import Any

from deeplabx.backbone.contract import Backbone, Features, Normalization
from deeplabx.backbone.mobilenetv2 import mobilenetv2
from deeplabx.backbone.resnet import resnet18, resnet50, resnet50_beta, resnet101, resnet101_beta
from deeplabx.backbone.xception import xception41, xception65, xception71
from deeplabx.errors import ConfigError

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet50_beta": resnet50_beta,
    "resnet101_beta": resnet101_beta,
    "xception41": xception41,
    "xception65": xception65,
    "xception71": xception71,
}

__all__ = ["BACKBONES", "Backbone", "Features", "Normalization", "build_backbone"]


def build_backbone(name: str, *, output_stride: int, **family: Any) -> Backbone:
    """A backbone of random weights. `family` takes the family's own settings, such as multi_grid."""
    if name not in BACKBONES:
        raise ConfigError(f"backbone={name} is not known", hint=f"backbones: {', '.join(BACKBONES)}")
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"backbone.output_stride={output_stride} is not one of 8, 16, 32")
    return BACKBONES[name](output_stride=output_stride, **family)
