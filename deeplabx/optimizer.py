"""Optimizers by name, over parameter groups: backbone and head, decayed and not."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from deeplabx.errors import ConfigError

Parameters = list[dict[str, Any]]


class Parted(Protocol):
    """A model that says which of its parameters are the head's."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...
    def in_head(self, parameter: str) -> bool: ...


def parameter_groups(
    model: Parted,
    *,
    lr: float,
    weight_decay: float,
    head_lr_factor: float = 1.0,
    head_bias_lr_factor: float | None = None,
) -> Parameters:
    """Up to five groups: the head (learning rate x head_lr_factor) and the rest, each decayed (kernels) and
    not (norm, bias and depthwise kernels), and the head's biases where head_bias_lr_factor gives them a rate
    of their own.

    Each carries `base_lr`, which the schedule's factor multiplies, and the `names` of its parameters.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim > 1 and not is_depthwise(
            parameter
        )  # norm weights and all biases have one dimension
        label, factor = ("head", head_lr_factor) if model.in_head(name) else ("backbone", 1.0)
        if label == "head" and name.endswith(".bias") and head_bias_lr_factor is not None:
            label, factor = "head_bias", head_bias_lr_factor
        elif not decayed:
            label += "_no_decay"
        group = groups.setdefault(
            label,
            {
                "params": [],
                "names": [],
                "lr": lr * factor,
                "base_lr": lr * factor,
                "weight_decay": weight_decay if decayed else 0.0,
            },
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


def adamw(groups: Iterable[dict[str, Any]], *, beta1: float, beta2: float) -> torch.optim.Optimizer:
    """AdamW (1711.05101): the decay is no part of the gradient."""
    return torch.optim.AdamW(groups, betas=(beta1, beta2), fused=True)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": sgd, "adamw": adamw}


def build_optimizer(
    name: str,
    model: Parted,
    *,
    lr: float,
    weight_decay: float,
    head_lr_factor: float = 1.0,
    head_bias_lr_factor: float | None = None,
    **settings: Any,
) -> torch.optim.Optimizer:
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer={name} is not known", hint=f"optimizers: {', '.join(OPTIMIZERS)}")
    groups = parameter_groups(
        model,
        lr=lr,
        weight_decay=weight_decay,
        head_lr_factor=head_lr_factor,
        head_bias_lr_factor=head_bias_lr_factor,
    )
    return OPTIMIZERS[name](groups, **settings)
