"""The models by name, each on any backbone."""

from collections.abc import Callable
from typing import Any

from deeplabx.backbone.contract import Backbone
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.deeplabv3 import DeepLabV3
from deeplabx.model.deeplabv3plus import DeepLabV3Plus
from deeplabx.model.layers import freeze_norm

MODELS: dict[str, Callable[..., DeepLab]] = {"deeplabv3": DeepLabV3, "deeplabv3plus": DeepLabV3Plus}


def build_head(name: str, backbone: Backbone, *, num_classes: int, norm: str = "batch", **settings: Any) -> DeepLab:
    """The model `name` on `backbone`. norm: batch, or frozen (statistics and affine stay as loaded)."""
    if name not in MODELS:
        raise ConfigError(f"model={name} is not known", hint=f"models: {', '.join(MODELS)}")
    model = MODELS[name](backbone, num_classes=num_classes, **settings)
    if norm == "frozen":
        freeze_norm(model)
    return model


__all__ = ["MODELS", "DeepLab", "DeepLabV3", "DeepLabV3Plus", "build_head"]
