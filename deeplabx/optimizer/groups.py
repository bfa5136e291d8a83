"""The groups of parameters that an optimizer is given: backbone and head, decayed and not."""

from collections.abc import Iterable
from typing import Any, Protocol

from torch import Tensor

ParameterGroups = list[dict[str, Any]]


class HasHead(Protocol):
    """A model that knows which of its parameters belong to the head."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...
    def in_head(self, parameter: str) -> bool: ...


def parameter_groups(
    model: HasHead,
    *,
    lr: float,
    weight_decay: float,
    head_lr_factor: float = 1.0,
    head_bias_lr_factor: float | None = None,
) -> ParameterGroups:
    """Up to five groups: the head (learning rate x head_lr_factor) and the rest, each split into decayed
    (kernels) and not decayed (norm, bias and depthwise kernels), plus the head's biases if
    head_bias_lr_factor is set.

    Each has `lr` and `weight_decay`, `base_lr`, which the schedule's factor multiplies, and the `names` of
    its parameters.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Norm weights and all biases have one dimension.
        decayed = parameter.ndim > 1 and not is_depthwise(parameter)
        label, factor = ("head", head_lr_factor) if model.in_head(name) else ("backbone", 1.0)
        if label == "head" and name.endswith(".bias") and head_bias_lr_factor is not None:
            label, factor = "head_bias", head_bias_lr_factor
        elif not decayed:
            label += "_no_decay"
        rates = {"lr": lr * factor, "base_lr": lr * factor, "weight_decay": weight_decay if decayed else 0.0}
        group = groups.setdefault(label, {"params": [], "names": [], **rates})
        group["params"].append(parameter)
        group["names"].append(name)
    return [{"group": label, **group} for label, group in groups.items()]


def is_depthwise(parameter: Tensor) -> bool:
    """Whether a parameter is a depthwise kernel, which the released code never decays."""
    return parameter.ndim == 4 and parameter.shape[1] == 1 and parameter.shape[2] > 1
