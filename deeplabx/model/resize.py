"""Bilinear resizing whose gradient repeats to the bit on GPUs."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def resize(x: Tensor, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """Bilinear resize of N x C x h x w to N x C x size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return bilinear(x, list(size), None, align_corners)


def rescale(x: Tensor, scale: float, *, align_corners: bool) -> Tensor:
    """Bilinear resize by a factor. With align_corners, `scale` applies to the distance between the outermost
    pixels: 321 at 0.5 becomes 161.
    """
    if scale == 1.0:
        return x
    if align_corners:
        rounded = rounded_product if torch.compiler.is_exporting() else lambda side, by: round(side * by)
        return resize(x, [rounded(side - 1, scale) + 1 for side in x.shape[-2:]], align_corners=True)
    return bilinear(x, None, [scale, scale], False)


def rounded_product(whole: int, factor: float) -> int:
    """`round(whole * factor)`, a half to the even number, in whole numbers alone: of a graph's free size,
    export formats have no rounding.
    """
    ratio = Fraction(factor).limit_denominator(1000)
    doubled = 2 * ratio.denominator
    up, rest = divmod_of(2 * whole * ratio.numerator + ratio.denominator, doubled)
    is_half = 1 - (rest + doubled - 1) // doubled
    return up - is_half * (up % 2)


def divmod_of(number: int, by: int) -> tuple[int, int]:
    """`divmod`, which a symbolic size does not have."""
    return number // by, number % by


def bilinear(
    x: Tensor, size: list[int] | None, scale_factors: list[float] | None, align_corners: bool
) -> Tensor:
    """Bilinear resize to `size`, or by `scale_factors`."""
    resized = Bilinear.apply if needs_own_backward(x) else native
    return resized(x, size, scale_factors, align_corners)


def needs_own_backward(x: Tensor) -> bool:
    """On GPUs torch adds the gradient up in an order that changes from run to run. On CPUs it does not, and
    two matrix products are slower there.
    """
    return x.is_cuda and x.requires_grad and torch.is_grad_enabled()


def native(
    x: Tensor, size: list[int] | None, scale_factors: list[float] | None, align_corners: bool
) -> Tensor:
    """torch's operator. F.interpolate calls it too, but on a GPU with torch's deterministic algorithms it
    calls a slower decomposition instead, which training and evaluation would then not share.
    """
    return torch.ops.aten.upsample_bilinear2d.vec(x, size, align_corners, scale_factors)


class Bilinear(torch.autograd.Function):
    """`native`, with a backward of two matrix products: bilinear resizing is Y = R X C^T for each channel, so
    the gradient of X is R^T dY C. The products are in float32 (float64 for float64): in bf16 they are wrong
    by 3e-2.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, size: list[int] | None, scale_factors: list[float] | None, align_corners: bool
    ) -> Tensor:
        ctx.input_size, ctx.scale_factors, ctx.align_corners = x.shape[-2:], scale_factors, align_corners
        return native(x, size, scale_factors, align_corners)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        with torch.autocast(gradient.device.type, enabled=False):
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            rows, columns = (
                weights(
                    before,
                    after,
                    None if ctx.scale_factors is None else ctx.scale_factors[0],
                    align_corners=ctx.align_corners,
                    like=gradient.new_empty(0, dtype=dtype),
                )
                for before, after in zip(ctx.input_size, gradient.shape[-2:], strict=True)
            )
            products = (
                of_channels_last
                if gradient.is_contiguous(memory_format=torch.channels_last)
                else of_contiguous
            )
            return products(gradient.to(dtype), rows, columns).to(gradient.dtype), None, None, None


def weights(before: int, after: int, scale: float | None, *, align_corners: bool, like: Tensor) -> Tensor:
    """Matrix before x after of what each input pixel of a line contributes to each output pixel: the resized
    identity matrix. like: has its dtype and device.
    """
    identity = torch.eye(before, dtype=like.dtype, device=like.device)[None, :, :, None]
    size, factors = ([after, 1], None) if scale is None else (None, [scale, 1.0])
    return native(identity, size, factors, align_corners)[0, :, :, 0]


def of_channels_last(gradient: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The gradient N x C x h x w of the input, from that of the output, in channels_last memory without a
    copy. rows: h x H; columns: w x W.
    """
    pixels = gradient.permute(0, 2, 3, 1)
    images, height, width, channels = pixels.shape
    lines = torch.bmm(rows.expand(images, -1, -1), pixels.reshape(images, height, width * channels))
    lines = lines.reshape(images * len(rows), width, channels)
    found = torch.bmm(columns.expand(len(lines), -1, -1), lines)
    return found.reshape(images, len(rows), len(columns), channels).permute(0, 3, 1, 2)


def of_contiguous(gradient: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same in contiguous memory."""
    images, channels, height, width = gradient.shape
    lines = gradient.reshape(-1, width) @ columns.T
    lines = lines.reshape(images * channels, height, len(columns))
    found = torch.bmm(rows.expand(len(lines), -1, -1), lines)
    return found.reshape(images, channels, len(rows), len(columns))
