"""The norm layers of a model: freezing or replacing them, and their momentum."""

from collections.abc import Callable
from math import gcd
from typing import TypeVar

from torch import nn

from deeplabx.errors import ConfigError

Model = TypeVar("Model", bound=nn.Module)

GROUPS = 32  # 1803.08494, section 4.1


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always uses its running statistics, also after `.train()`."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        return super().train(False)


def freeze_norm(model: nn.Module) -> None:
    """Freeze every batch norm of `model`, synchronised ones included, in place: neither its statistics nor
    its affine parameters change in training.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            module.__class__ = FrozenBatchNorm2d
            module.requires_grad_(False).train(False)


def group_norm(model: nn.Module) -> None:
    """Replace every batch norm of `model`, in place, by a group norm with the same affine parameters and 32
    groups, or the largest divisor of 32 that also divides its channels.
    """
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.BatchNorm2d):
                group = nn.GroupNorm(gcd(GROUPS, module.num_features), module.num_features, eps=module.eps)
                group.load_state_dict({"weight": module.weight, "bias": module.bias})
                setattr(parent, name, group)


def set_momentum(model: nn.Module, momentum: float) -> None:
    """Set the weight of each new batch in the running statistics: 1 minus what TensorFlow calls decay."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def folded_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The batch norms whose statistics were folded into their convolutions, by name: importers then write
    mean 0 and variance 1 - eps. Those of a randomly initialised layer have variance 1.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        and module.running_mean is not None
        and module.running_var is not None
        and not module.running_mean.any()
        and bool((module.running_var == 1 - module.eps).all())
    }


NORMS: dict[str, Callable[[nn.Module], None]] = {"frozen": freeze_norm, "group": group_norm}
KEPT = (
    "auto",
    "batch",
    "sync",
)  # batch norm as built; the processes of a run synchronize it for auto and sync


def apply_norm(model: Model, *, norm: str, momentum: float | None = None) -> Model:
    """Give a model of batch norms another norm, in place. momentum: as `set_momentum`; None for 0.1."""
    if norm not in (*KEPT, *NORMS):
        raise ConfigError(f"model.norm={norm} is not one of {', '.join((*KEPT, *NORMS))}")
    if momentum is not None:
        set_momentum(model, momentum)
    if norm in NORMS:
        NORMS[norm](model)
    return model


def norm_summary(model: nn.Module, *, images: int) -> str:
    """A description of the model's norm layers, for the log. images: number of images whose statistics a
    batch norm computes together.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    frozen = sum(isinstance(module, FrozenBatchNorm2d) for module in norms)
    if not norms:
        has_group_norm = any(isinstance(module, nn.GroupNorm) for module in model.modules())
        return "group norm" if has_group_norm else "no batch norm"
    if frozen == len(norms):
        return "batch norm is frozen"
    return f"batch norm sees {images}" + (f", {frozen} of {len(norms)} are frozen" if frozen else "")
