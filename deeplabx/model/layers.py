"""The convolutions and the pooling that heads and decoders share."""

from collections.abc import Sequence

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
    return F.avg_pool2d(x, (min(window, height), min(window, width)), stride)


def scaled_rates(atrous_rates: Sequence[int], *, output_stride: int, reference_stride: int) -> list[int]:
    """Rates stated for `reference_stride`, converted to `output_stride`: doubled at half the stride (v3,
    section 3.3), at least 1.
    """
    return [max(1, rate * reference_stride // output_stride) for rate in atrous_rates]
