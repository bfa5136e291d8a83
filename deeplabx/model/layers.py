"""The convolutions and the pooling that heads and decoders share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplabx.backbone.layers import conv_norm_act


def conv3x3(in_channels: int, out_channels: int, *, separable: bool, rate: int = 1) -> nn.Sequential:
    """A 3x3 convolution with norm and ReLU, or its separable form: depthwise then 1x1, both with norm and
    ReLU (v3+, section 3.1).
    """
    if not separable:
        return conv_norm_act(in_channels, out_channels, kernel_size=3, rate=rate)
    return nn.Sequential(
        conv_norm_act(in_channels, in_channels, kernel_size=3, rate=rate, groups=in_channels),
        conv_norm_act(in_channels, out_channels, kernel_size=1),
    )


def window_mean(x: Tensor, window: int | None, *, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """The mean of all features, N C 1 1, or of each window x window of them. A window larger than x is
    clipped to the size of x.
    """
    if window is None:
        return x.mean(dim=(2, 3), keepdim=True)
    height, width = x.shape[-2:]
    if torch.compiler.is_exporting():  # a kernel's size would be fixed to that of the traced image
        rows, columns = (
            line_means(side, window, step, like=x) for side, step in zip((height, width), stride, strict=True)
        )
        return rows @ x @ columns.T
    return F.avg_pool2d(x, (min(window, height), min(window, width)), stride)


def line_means(length: int, window: int, stride: int, *, like: Tensor) -> Tensor:
    """Matrix windows x length whose product with a line is the mean of each window of it; like: has its dtype
    and device.
    """
    size = torch.sym_min(window, length)
    starts = torch.arange(0, length - size + 1, stride, device=like.device)[:, None]
    positions = torch.arange(length, device=like.device)
    inside = (positions >= starts) & (positions < starts + size)
    return inside.to(like.dtype) / size


def scaled_rates(atrous_rates: Sequence[int], *, output_stride: int, reference_stride: int) -> list[int]:
    """Rates stated for `reference_stride`, converted to `output_stride`: doubled at half the stride (v3,
    section 3.3), at least 1.
    """
    return [max(1, rate * reference_stride // output_stride) for rate in atrous_rates]
