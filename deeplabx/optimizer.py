"""Optimizers by name, over parameter groups: backbone and head, decayed and not."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from deeplabx.errors import ConfigError

Parameters = list[dict[str, Any]]


def parameter_groups(model: nn.Module, *, lr: float, weight_decay: float, head_lr_factor: float = 1.0) -> Parameters:
    """Up to four groups: backbone and head (learning rate x head_lr_factor), each decayed (kernels) and not (norm, bias and depthwise kernels).

    Each carries `base_lr`, which the schedule's factor multiplies, and the `names` of its parameters.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "backbone" if name.startswith("backbone.") else "head"
        decayed = parameter.ndim > 1 and not is_depthwise(parameter)  # norm weights and all biases have one dimension
        base_lr = lr * (head_lr_factor if part == "head" else 1.0)
        group = groups.setdefault(
            f"{part}{'' if decayed else '_no_decay'}",
            {"params": [], "names": [], "lr": base_lr, "base_lr": base_lr, "weight_decay": weight_decay if decayed else 0.0},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [{"group": label, **group} for label, group in groups.items()]


def is_depthwise(parameter: Tensor) -> bool:
    """Whether a parameter is a depthwise kernel, which the released code never decays."""
    return parameter.ndim == 4 and parameter.shape[1] == 1 and parameter.shape[2] > 1


def sgd(groups: Iterable[dict[str, Any]], *, momentum: float) -> torch.optim.Optimizer:
    """SGD with momentum. Fused: a single pass over the parameters."""
    return torch.optim.SGD(groups, momentum=momentum, fused=True)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": sgd}


def build_optimizer(
    name: str, model: nn.Module, *, lr: float, weight_decay: float, head_lr_factor: float = 1.0, **settings: Any
) -> torch.optim.Optimizer:
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer={name} is not known", hint=f"optimizers: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](parameter_groups(model, lr=lr, weight_decay=weight_decay, head_lr_factor=head_lr_factor), **settings)
