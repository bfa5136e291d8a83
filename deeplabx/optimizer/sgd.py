"""SGD with momentum, the optimizer of the papers."""

import inspect

import torch

from deeplabx.optimizer.eager import Eager
from deeplabx.optimizer.groups import ParameterGroups


class SGD(Eager, torch.optim.SGD):
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def sgd(groups: ParameterGroups, *, momentum: float, nesterov: bool = False) -> torch.optim.Optimizer:
    """Fused: a single pass over the parameters. Learning rate and weight decay are those of each group."""
    return SGD(groups, momentum=momentum, nesterov=nesterov, fused=True)
