"""Freezing the first layers of a model."""

from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.norm import freeze_norm


def freeze_up_to(model: DeepLab, stride: int) -> None:
    """Freeze, in place, the parameters and norm statistics of the backbone's layers up to `stride` in the
    classification network; for 32, of the whole backbone.

    These are the first layers, so their activations are not stored for a backward pass.
    """
    layers = model.backbone.up_to(stride)
    if not layers:
        raise ConfigError(
            f"trainer.freeze_stride={stride}, but no layer of this backbone has an output stride of "
            f"{stride} or less",
            hint=f"set trainer.freeze_stride={2 * stride}",
        )
    for layer in layers:
        freeze_norm(layer)
        layer.requires_grad_(False)
