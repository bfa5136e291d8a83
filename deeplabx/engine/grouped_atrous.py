"""Grouped convolutions with an atrous rate, in bf16 on a CPU."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class GroupedAtrousInFloat32(TorchFunctionMode):
    """Within the block grouped convolutions with an atrous rate, depthwise ones among them, compute in
    float32 where autocast would have them compute in bf16; their result is bf16 as before.

    In bf16 oneDNN returns a wrong gradient of their kernels (torch 2.13 on a CPU with AVX512-BF16: rates from
    2, rows from 33 features; the error is larger than the gradient, differs from run to run, and may not be
    finite). Forward and the gradient of the input are right, and so is all of dense convolutions.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if function is torch.conv2d and torch.is_autocast_enabled("cpu"):
            return convolved(*args, **given)
        return function(*args, **given)


def convolved(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """torch.conv2d, whose arguments these are."""
    rates = dilation if isinstance(dilation, tuple | list) else (dilation,)
    if groups == 1 or max(rates) == 1:
        return torch.conv2d(images, weight, bias, stride, padding, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        bias = None if bias is None else bias.float()
        result = torch.conv2d(images.float(), weight.float(), bias, stride, padding, dilation, groups)
    return result.to(torch.get_autocast_dtype("cpu"))
