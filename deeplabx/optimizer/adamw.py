"""AdamW (1711.05101)."""

import inspect

import torch

from deeplabx.optimizer.eager import Eager
from deeplabx.optimizer.groups import ParameterGroups


class AdamW(Eager, torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def adamw(groups: ParameterGroups, *, beta1: float, beta2: float) -> torch.optim.Optimizer:
    """The decay is not part of the gradient. Learning rate and weight decay are those of each group."""
    return AdamW(groups, betas=(beta1, beta2), fused=True)
