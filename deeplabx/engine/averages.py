"""Averages of a model's weights, which are evaluated and saved in place of the trained ones: EMA and SWA.

Batch norm's statistics are floating-point buffers and are averaged with the weights, as torch's
AveragedModel(use_buffers=True) does; no pass over the data recomputes them.
"""

import copy

import torch
from torch import Tensor, nn

from deeplabx.model.contract import DeepLab


class Average:
    """`model` holds an average of the trained model's parameters and floating-point buffers; integer buffers
    are copied. The average depends only on the history of the weights, so each process can keep its own.

    updates: number of weights in it, int64 on the model's device, because only the device knows which steps
    are left out.
    """

    def __init__(self, trained: DeepLab) -> None:
        self.model = copy.deepcopy(trained).requires_grad_(False).eval()
        device = next(trained.parameters()).device
        self.updates = torch.zeros((), dtype=torch.int64, device=device)

    def newest_weight(self, step: int) -> Tensor | None:
        """The weight of the model after its step-th step, step = 1, 2, ..., in the average; float64, 0-d, on
        the device. None: the average stays as it is. It may set `updates` before they are counted.
        """
        raise NotImplementedError

    @torch.no_grad()
    def update(self, trained: DeepLab, *, step: int, left_out: Tensor) -> None:
        """Where `left_out` (bool, 0-d, on the device) is true, nothing changes. step: see `newest_weight`."""
        weight = self.newest_weight(step)
        if weight is None:
            return
        newest_weight = weight.masked_fill(left_out, 0.0).float()
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


class EMA(Average):
    """The exponential moving average. The decay of the t-th update, t = 0, 1, ..., is
    min(decay, (1 + t) / (10 + t)), as in TensorFlow: the random weights of the first steps are soon
    forgotten.
    """

    def __init__(self, trained: DeepLab, *, decay: float) -> None:
        super().__init__(trained)
        self.decay = decay

    def newest_weight(self, step: int) -> Tensor:
        updates = self.updates.double()
        return 1 - ((1 + updates) / (10 + updates)).clamp(max=self.decay)


class SWA(Average):
    """The equal average of the weights after the steps start, start + every, start + 2 every, ...
    (1803.05407); before that, the weights themselves.
    """

    def __init__(self, trained: DeepLab, *, start: int, every: int) -> None:
        super().__init__(trained)
        self.start, self.every = start, every

    def newest_weight(self, step: int) -> Tensor | None:
        if step <= self.start:
            self.updates.zero_()  # a run that was extended may have averaged before
        elif (step - self.start) % self.every:
            return None
        return 1 / (self.updates.double() + 1)


def tensors_of(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers, split into floating-point tensors and the others."""
    tensors = [*model.parameters(), *model.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floating, [tensor for tensor in tensors if not tensor.is_floating_point()]
