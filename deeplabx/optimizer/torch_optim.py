"""Algorithms of torch.optim by name."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import optim

from deeplabx.errors import ConfigError
from deeplabx.optimizer.eager import Eager
from deeplabx.optimizer.groups import ParameterGroups

# Those that take groups of parameters and no closure, and keep all of their state in tensors.
CLASSES: dict[str, type[optim.Optimizer]] = {
    "ASGD": optim.ASGD,
    "Adadelta": optim.Adadelta,
    "Adafactor": optim.Adafactor,
    "Adagrad": optim.Adagrad,
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "RMSprop": optim.RMSprop,
    "Rprop": optim.Rprop,
    "SGD": optim.SGD,
}
FUSED = ("Adam", "AdamW", "SGD")  # a single pass over the parameters, which the device can leave out


def torch_optimizer(
    groups: ParameterGroups, *, algorithm: str, settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """torch.optim's `algorithm` with `settings`. Learning rate and weight decay are those of each group.

    Raises ConfigError for another name, and for what torch does not accept.
    """
    if algorithm not in CLASSES:
        raise ConfigError(
            f"optimizer.algorithm={algorithm} is not offered", hint=f"it can be {', '.join(CLASSES)}"
        )
    taken = inspect.signature(CLASSES[algorithm]).parameters
    unknown = [name for name in settings if name not in taken or name in ("params", "fused", "foreach")]
    if unknown:
        raise ConfigError(f"optimizer.settings.{unknown[0]} is not a setting of {algorithm}")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    fused = {"fused": True} if algorithm in FUSED else {}
    try:
        return eager(CLASSES[algorithm])(groups, **given, **fused)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError(f"optimizer.settings={dict(settings)} of {algorithm}: {words}") from None


def eager(base: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """An algorithm of torch.optim that does not import torch's compiler, under its own name."""
    step = torch.no_grad()(inspect.unwrap(base.step))
    return type(base.__name__, (Eager, base), {"step": step})
