"""SGD with momentum, the optimizer of the papers."""

import torch

from deeplabx.optimizer.groups import ParameterGroups


def sgd(groups: ParameterGroups, *, momentum: float) -> torch.optim.Optimizer:
    """Fused: a single pass over the parameters. Learning rate and weight decay are those of each group."""
    return torch.optim.SGD(groups, momentum=momentum, fused=True)
