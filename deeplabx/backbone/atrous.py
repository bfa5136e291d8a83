"""Output stride: trading the strides of a classification network for atrous rates (v3, section 3.1)."""

from typing import NamedTuple

from deeplabx.errors import ConfigError

OUTPUT_STRIDES = (8, 16, 32)


class Step(NamedTuple):
    """Stride and rates of one strided convolution and of the layers after it."""

    stride: int
    rate: int  # of the strided convolution itself: the rate reached before it
    next_rate: int  # of all layers after it, up to the next strided convolution


def atrous_steps(strides: list[int], *, output_stride: int) -> list[Step]:
    """Keep each stride until `output_stride` is reached; turn the others into the rate of the layers that
    follow.

    The strided convolution itself keeps the old rate. The network therefore computes the features of the
    strided network at more positions: every k-th of its features is one of theirs, exactly.
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
