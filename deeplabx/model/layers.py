"""The convolutions that heads and decoders share."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm_act(in_channels: int, out_channels: int, *, kernel_size: int, rate: int = 1, groups: int = 1) -> nn.Sequential:
    padding = rate * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=rate, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv3x3(in_channels: int, out_channels: int, *, separable: bool, rate: int = 1) -> nn.Sequential:
    """A 3x3 convolution with norm and ReLU, or its separable form: depthwise then 1x1, both with norm and ReLU (v3+, section 3.1)."""
    if not separable:
        return conv_norm_act(in_channels, out_channels, kernel_size=3, rate=rate)
    return nn.Sequential(
        conv_norm_act(in_channels, in_channels, kernel_size=3, rate=rate, groups=in_channels),
        conv_norm_act(in_channels, out_channels, kernel_size=1),
    )


def resize(x: Tensor, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """Bilinear resize of N x C x h x w to N x C x size."""
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, list(size), mode="bilinear", align_corners=align_corners)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics and affine stay as they are, also after `.train()`."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        return super().train(False)


def freeze_norm(model: nn.Module) -> None:
    """Turn every batch norm of `model` into a frozen one, in place."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = FrozenBatchNorm2d
            module.requires_grad_(False).train(False)
