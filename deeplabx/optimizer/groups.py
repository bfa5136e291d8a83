"""The groups of parameters that an optimizer is given: backbone and head, decayed and not."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

ParameterGroups = list[dict[str, Any]]
NO_DECAY = ("norm", "bias", "depthwise")  # the kinds that the released code of v3 and v3+ does not decay


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
    no_decay: Collection[str] = NO_DECAY,
    layer_factors: Mapping[Tensor, float] | None = None,
) -> ParameterGroups:
    """The groups of parameters that need the same rates: the head (learning rate x head_lr_factor) and the
    rest, each split into decayed and not decayed, plus the head's biases if head_bias_lr_factor is set. With
    layer_factors, the rest is split by the factor too.

    no_decay: kinds of parameters without weight decay, of norm, bias and depthwise. layer_factors: of the
    backbone's parameters, from `layer_factors`; the others have 1.

    Each has `lr` and `weight_decay`, `base_lr`, which the schedule's factor multiplies, the `layer_factor` in
    it, and the `names` of its parameters.
    """
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    named = dict(model.named_parameters())
    for name, parameter in named.items():
        if not parameter.requires_grad:
            continue
        decayed = kind_of(name, named) not in no_decay
        label, factor = ("head", head_lr_factor) if model.in_head(name) else ("backbone", 1.0)
        of_layer = (layer_factors or {}).get(parameter, 1.0)
        if label == "head" and name.endswith(".bias") and head_bias_lr_factor is not None:
            label, factor = "head_bias_decay" if decayed else "head_bias", head_bias_lr_factor
        elif not decayed:
            label += "_no_decay"
        rate = lr * factor * of_layer
        rates = {"lr": rate, "base_lr": rate, "weight_decay": weight_decay if decayed else 0.0}
        group = groups.setdefault(
            (label, of_layer), {"params": [], "names": [], "layer_factor": of_layer, **rates}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [{"group": label, **group} for (label, _), group in groups.items()]


def kind_of(name: str, named: Mapping[str, Tensor]) -> str:
    """norm, bias, depthwise or kernel: what the parameter of this name is. named: all of the model's.

    norm: both vectors of a norm layer, and others that are no bias, such as layer scale.
    """
    parameter = named[name]
    if parameter.ndim > 1:
        return "depthwise" if is_depthwise(parameter) else "kernel"
    owner, _, last = name.rpartition(".")
    weight = named.get(f"{owner}.weight")
    return "bias" if last == "bias" and (weight is None or weight.ndim > 1) else "norm"


def layer_factors(units: Sequence[Sequence[nn.Module]], decay: float) -> dict[Tensor, float]:
    """The factor on the learning rate of each parameter of a backbone: `decay` in its last unit, decay ** 2
    in the one before it, and so on (layer-wise learning rate decay). units: in execution order, as
    `Backbone.units` gives them.
    """
    return {
        parameter: decay ** (len(units) - index)
        for index, unit in enumerate(units)
        for layer in unit
        for parameter in layer.parameters()
    }


def is_depthwise(parameter: Tensor) -> bool:
    """Whether a parameter is a depthwise kernel, which the released code never decays."""
    return parameter.ndim == 4 and parameter.shape[1] == 1 and parameter.shape[2] > 1
