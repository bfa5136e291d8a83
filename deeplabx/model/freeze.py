"""Layers that do not change in training."""

from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.norm import freeze_norm


def freeze_up_to(model: DeepLab, stride: int) -> None:
    """Let the backbone's layers up to a stride of the classification network keep parameters and statistics,
    in place. Of 32: the whole backbone.

    They come first, so nothing is kept of their forward pass for a backward one.
    """
    layers = model.backbone.up_to(stride)
    if not layers:
        raise ConfigError(
            f"trainer.freeze_stride={stride}, but no layer of this backbone gives features of that stride "
            "or a finer one",
            hint=f"type trainer.freeze_stride={2 * stride}",
        )
    for layer in layers:
        freeze_norm(layer)
        layer.requires_grad_(False)
