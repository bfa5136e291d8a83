"""The interface that every backbone implements."""

from collections.abc import Iterable
from itertools import accumulate
from operator import mul
from typing import NamedTuple

from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization

COARSEST = 32  # output stride of a classification network


class Features(NamedTuple):
    low_level: Tensor  # N x low_level_channels x ceil(H/4) x ceil(W/4)
    middle: Tensor  # N x middle_channels x ceil(H/8) x ceil(W/8)
    auxiliary: Tensor  # N x auxiliary_channels x h x w: the features that the last block starts from
    high: Tensor  # N x channels x ceil(H/output_stride) x ceil(W/output_stride)


class Backbone(nn.Module):
    """Normalised images N x in_channels x H x W to Features. Each family sets the attributes below; models
    only read them.

    The Caffe ResNets pool in ceil mode: their features may have one row or column more than `Features` says.
    """

    channels: int
    low_level_channels: int
    middle_channels: int
    auxiliary_channels: int
    output_stride: int
    normalization: Normalization
    separable: bool  # whether ASPP and decoder use separable 3x3 convolutions by default
    atrous_branches: bool  # whether DeepLabv3's ASPP has atrous branches by default
    # whether its tensors have another program's names, so that files of that program load unchanged
    keeps_foreign_names: bool = False
    # whether two more layers precede the classifier, as in VGG: fc6 and fc7 of DeepLabv1 and v2
    fully_connected: bool = False

    def forward(self, images: Tensor) -> Features:
        raise NotImplementedError

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        """The layers (convolutions, norms, poolings, whole units) in execution order, each with its stride in
        the classification network, before any stride is traded for rate. Together they hold every parameter.
        """
        raise NotImplementedError

    def up_to(self, stride: int) -> list[nn.Module]:
        """The layers whose output has at most this stride in the classification network; for 32, the whole
        backbone.
        """
        if stride == COARSEST:
            return [self]
        layers = list(self.layers())
        outputs = accumulate((own for _, own in layers), mul)
        return [layer for (layer, _), output in zip(layers, outputs, strict=True) if output <= stride]

    def units(self) -> list[list[nn.Module]]:
        """The layers in execution order, in groups that begin with a convolution or a whole unit: what
        layer-wise decay of the learning rate counts. Layers without parameters are left out.
        """
        units: list[list[nn.Module]] = []
        for layer, _ in self.layers():
            dimensions = [parameter.ndim for parameter in layer.parameters()]
            if dimensions and (max(dimensions) > 1 or not units):
                units.append([])
            if dimensions:
                units[-1].append(layer)
        return units
