"""AdamW (1711.05101)."""

import torch

from deeplabx.optimizer.groups import ParameterGroups


def adamw(groups: ParameterGroups, *, beta1: float, beta2: float) -> torch.optim.Optimizer:
    """The decay is not part of the gradient. Learning rate and weight decay are those of each group."""
    return torch.optim.AdamW(groups, betas=(beta1, beta2), fused=True)
