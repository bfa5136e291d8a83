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

    updates: their number t, int64 on the model's device, because only the device knows which steps are left
    out.
    """

    def __init__(self, trained: DeepLab, *, decay: float) -> None:
        self.model = copy.deepcopy(trained).requires_grad_(False).eval()
        self.decay = decay
        device = next(trained.parameters()).device
        self.updates = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, trained: DeepLab, *, left_out: Tensor) -> None:
        """Where `left_out` (bool, 0-d, on the device) is true, nothing changes."""
        updates = self.updates.double()
        decay = ((1 + updates) / (10 + updates)).clamp(max=self.decay)
        newest_weight = (1 - decay).masked_fill(left_out, 0.0).float()
        averages, integers = tensors_of(self.model)
        newest, newest_integers = tensors_of(trained)
        # A parameter that a step left alone is finite, but a buffer may not be, and 0 x NaN is NaN.
        first_buffer = len(list(trained.parameters()))
        for number in range(first_buffer, len(newest)):
            newest[number] = torch.where(left_out, averages[number], newest[number])
        torch._foreach_lerp_(averages, newest, [newest_weight] * len(averages))
        for average, integer in zip(integers, newest_integers, strict=True):
            average.copy_(torch.where(left_out, average, integer))
        self.updates += ~left_out


def tensors_of(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers, split into floating-point tensors and the others."""
    tensors = [*model.parameters(), *model.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floating, [tensor for tensor in tensors if not tensor.is_floating_point()]
