"""Size of a model: parameters, multiply-adds, and the stride and rate of each convolution."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import ceil, log2
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Convolution:
    """A convolution as run in a forward pass."""

    name: str
    channels: int
    kernel_size: int
    rate: int
    height: int  # of its output
    width: int
    weights: int

    @property
    def multiply_adds(self) -> int:
        return self.weights * self.height * self.width

    @property
    def padded_multiply_adds(self) -> int:
        """Multiply-adds on a grid with sides rounded up to a multiple of the rate: TensorFlow computes atrous
        convolutions that way, and the papers count them so.
        """
        return (
            self.weights
            * ceil(self.height / self.rate)
            * self.rate
            * ceil(self.width / self.rate)
            * self.rate
        )


@contextmanager
def noted_convolutions(model: nn.Module) -> Iterator[list[Convolution]]:
    """Every convolution that `model` runs in the block, in execution order."""
    ran: list[Convolution] = []

    def note(name: str, module: nn.Conv2d, output: Tensor) -> None:
        ran.append(
            Convolution(
                name,
                channels=module.out_channels,
                kernel_size=module.kernel_size[0],
                rate=module.dilation[0],
                height=output.shape[2],
                width=output.shape[3],
                weights=module.weight.numel(),
            )
        )

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def convolutions(model: nn.Module, *, height: int, width: int) -> list[Convolution]:
    """Every convolution of a forward pass on one image, in execution order."""
    first_kernel = next(parameter for parameter in model.parameters() if parameter.ndim == 4)
    with noted_convolutions(model) as ran, torch.no_grad():
        model(torch.zeros(1, first_kernel.shape[1], height, width, device=first_kernel.device))
    return ran


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def billions(ran: list[Convolution], *, padded: bool = False) -> float:
    return (
        sum(convolution.padded_multiply_adds if padded else convolution.multiply_adds for convolution in ran)
        / 1e9
    )


class Stage(NamedTuple):
    """Consecutive convolutions larger than 1x1 with the same stride and rate."""

    stride: int
    rate: int
    channels: int  # of the last one
    members: int  # number of convolutions


def stages(ran: list[Convolution], *, height: int) -> list[Stage]:
    """The stages of a network on an image of `height` rows, in order. A stage's stride is that of its
    convolutions' outputs.
    """
    wide = [convolution for convolution in ran if convolution.kernel_size > 1]
    runs = groupby(
        wide, key=lambda convolution: (2 ** round(log2(height / convolution.height)), convolution.rate)
    )
    rows = []
    for (stride, rate), run in runs:
        members = list(run)
        rows.append(Stage(stride, rate, members[-1].channels, len(members)))
    return rows
