"""The models by name, each on any backbone."""

from collections.abc import Callable
from typing import Any

from deeplabx.backbone.contract import Backbone
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.deeplabv1 import DeepLabV1
from deeplabx.model.deeplabv2 import DeepLabV2
from deeplabx.model.deeplabv3 import DeepLabV3
from deeplabx.model.deeplabv3plus import DeepLabV3Plus
from deeplabx.model.lraspp import LRASPP
from deeplabx.model.norm import freeze_norm, group_norm, set_momentum

MODELS: dict[str, type[DeepLab]] = {
    "deeplabv1": DeepLabV1,
    "deeplabv2": DeepLabV2,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "lraspp": LRASPP,
}
NORMS: dict[str, Callable[[DeepLab], None]] = {"frozen": freeze_norm, "group": group_norm}


def model_class(name: str) -> type[DeepLab]:
    if name not in MODELS:
        raise ConfigError(f"model={name} is not known", hint=f"models: {', '.join(MODELS)}")
    return MODELS[name]


def build_head(
    name: str,
    backbone: Backbone,
    *,
    num_classes: int,
    norm: str = "batch",
    norm_momentum: float | None = None,
    **settings: Any,
) -> DeepLab:
    """The model `name` on `backbone`. norm: batch, group, or frozen (statistics and affine stay as loaded).
    norm_momentum: None for 0.1.
    """
    if norm not in ("auto", "batch", "sync", *NORMS):
        raise ConfigError(f"model.norm={norm} is not one of auto, batch, sync, {', '.join(NORMS)}")
    model = model_class(name)(backbone, num_classes=num_classes, **settings)
    if norm_momentum is not None:
        set_momentum(model, norm_momentum)
    if norm in NORMS:
        NORMS[norm](model)
    return model


__all__ = [
    "LRASPP",
    "MODELS",
    "DeepLab",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV3",
    "DeepLabV3Plus",
    "build_head",
    "model_class",
]
