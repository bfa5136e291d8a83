"""EMA weights: the exponential moving average of a model, which is evaluated and saved."""

import copy

import torch
from torch import Tensor, nn

from deeplabx.model.contract import DeepLab


class EMA:
    """`model` holds the average of the trained model's parameters and floating-point buffers; integer buffers
    are copied.

    The decay of the t-th update, t = 0, 1, ..., is min(decay, (1 + t) / (10 + t)), as in TensorFlow: the
    random weights of the first steps are soon forgotten. The average depends only on the history of the
    weights, so each process can keep its own.
    """

    def __init__(self, trained: DeepLab, *, decay: float) -> None:
        self.model = copy.deepcopy(trained).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, trained: DeepLab) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, integers = tensors_of(self.model)
        newest, newest_integers = tensors_of(trained)
        torch._foreach_lerp_(averages, newest, 1 - decay)
        if integers:
            torch._foreach_copy_(integers, newest_integers)
        self.updates += 1


def tensors_of(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers, split into floating-point tensors and the others."""
    tensors = [*model.parameters(), *model.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floating, [tensor for tensor in tensors if not tensor.is_floating_point()]
