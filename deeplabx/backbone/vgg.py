"""VGG-16 (1409.1556) as DeepLabv1 and v2 take it, parameter names as torchvision has them (its
`features`).
"""

from collections.abc import Iterable

from torch import Tensor, nn

from deeplabx.backbone.atrous import atrous_steps
from deeplabx.backbone.contract import IMAGENET, Backbone, Features

# convolutions, channels of each of the five blocks; a max-pooling of stride 2 follows each
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG(Backbone):
    """The five blocks and their pooling. At output stride 8, pool4 and pool5 have stride 1 and conv5 has rate
    2 (v1, section 3.1).

    Pooling is 3x3, as published with v1, so that a side H becomes ceil(H/2) and pooling of stride 1 keeps its
    size.
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
        initialize(self)

    def forward(self, images: Tensor) -> Features:
        _, _, end_of_3, end_of_4, _ = self.ends
        low_level = self.features[:end_of_3](images)
        middle = self.features[end_of_3:end_of_4](low_level)
        return Features(low_level, middle, middle, self.features[end_of_4:](middle))

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        return [(layer, 2 if isinstance(layer, nn.MaxPool2d) else 1) for layer in self.features]


def initialize(backbone: nn.Module) -> None:
    """He's initialisation: without norm layers a smaller one starves the last of thirteen convolutions."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def vgg16(*, output_stride: int = 8, in_channels: int = 3) -> VGG:
    return VGG(output_stride=output_stride, in_channels=in_channels)
