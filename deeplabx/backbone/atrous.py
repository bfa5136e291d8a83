"""Output stride: trading the stride of a classification network for atrous rate (v3, section 3.1)."""

from typing import NamedTuple

from deeplabx.errors import ConfigError

OUTPUT_STRIDES = (8, 16, 32)


class Step(NamedTuple):
    """How one strided convolution and what follows it are built."""

    stride: int
    rate: int  # of the convolution that carries the stride: the rate reached before it
    next_rate: int  # of everything after it


def atrous_steps(strides: list[int], *, output_stride: int) -> list[Step]:
    """Keep each stride until `output_stride` is reached, then turn it into rate for all that follows.

    The strided convolution itself keeps the old rate. So the network computes exactly what the strided one
    does, at more places: every k-th of its features is the strided network's.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ConfigError(f"backbone.output_stride={output_stride} is not one of 8, 16, 32")
    steps, reached, rate = [], 1, 1
    for stride in strides:
        if reached * stride <= output_stride:
            reached *= stride
            steps.append(Step(stride, rate, rate))
        else:
            steps.append(Step(1, rate, rate * stride))
            rate *= stride
    return steps
