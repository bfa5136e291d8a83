"""VGG-16 (1409.1556) as DeepLabv1 and v2 use it. Parameter names are torchvision's (its `features`)."""

from collections.abc import Iterable

from torch import Tensor, nn

from deeplabx.backbone.atrous import atrous_steps
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.layers import initialize
from deeplabx.backbone.normalization import IMAGENET

# convolutions and channels of each of the five blocks; max-pooling of stride 2 follows each
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG(Backbone):
    """The five blocks and their pooling. At output stride 8, pool4 and pool5 have stride 1 and conv5 has rate
    2 (v1, section 3.1).

    Pooling is 3x3 as in the network published with v1: a side H becomes ceil(H/2), and pooling of stride 1
    keeps the size.
    """

    low_level_channels, middle_channels, auxiliary_channels, channels = 256, 512, 512, 512
    normalization = IMAGENET
    separable = False
    atrous_branches = True
    fully_connected = True

    def __init__(self, *, output_stride: int, in_channels: int = 3) -> None:
        super().__init__()
        self.output_stride = output_stride
        layers: list[nn.Module] = []
        self.ends: list[int] = []  # of each block, before its pooling
        rate = 1
        for (convolutions, channels), step in zip(
            BLOCKS, atrous_steps([2] * len(BLOCKS), output_stride=output_stride), strict=True
        ):
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(in_channels, channels, 3, padding=rate, dilation=rate),
                    nn.ReLU(inplace=True),
                ]
                in_channels = channels
            self.ends.append(len(layers))
            layers.append(nn.MaxPool2d(3, step.stride, padding=1))
            rate = step.next_rate
        self.features = nn.Sequential(*layers)
        # There are no norm layers: with a smaller initialisation the signal fades over the 13 convolutions.
        initialize(self, mode="fan_in")

    def forward(self, images: Tensor) -> Features:
        _, _, end_of_3, end_of_4, _ = self.ends
        low_level = self.features[:end_of_3](images)
        middle = self.features[end_of_3:end_of_4](low_level)
        return Features(low_level, middle, middle, self.features[end_of_4:](middle))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        return [(layer, 2 if isinstance(layer, nn.MaxPool2d) else 1) for layer in self.features]


def vgg16(*, output_stride: int, in_channels: int = 3) -> VGG:
    return VGG(output_stride=output_stride, in_channels=in_channels)
