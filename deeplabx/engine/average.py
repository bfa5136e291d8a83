"""The exponential moving average of a model, as it is evaluated and kept."""

import copy

import torch
from torch import Tensor, nn

from deeplabx.model import DeepLab


class Average:
    """`model` has the average of the parameters and floating-point buffers of the model that learns, and its
    integer buffers as they are.

    The decay of the t-th update, t = 0, 1, ..., is min(decay, (1 + t) / (10 + t)), as TensorFlow has it: the
    random weights of the start are soon forgotten. So the average is a function of the weights' history, and
    each process may keep its own.
    """

    def __init__(self, learning: DeepLab, *, decay: float) -> None:
        self.model = copy.deepcopy(learning).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, learning: DeepLab) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, whole_numbers = tensors_of(self.model)
        newest, newest_numbers = tensors_of(learning)
        torch._foreach_lerp_(averages, newest, 1 - decay)
        if whole_numbers:
            torch._foreach_copy_(whole_numbers, newest_numbers)
        self.updates += 1


def tensors_of(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers: those of floating point, and the others."""
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor for tensor in tensors if tensor.is_floating_point()], [
        tensor for tensor in tensors if not tensor.is_floating_point()
    ]
