"""A classifier with a large field of view: the head of DeepLabv1. DeepLabv2 sums several of them."""

import torch.nn.functional as F
from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone

DROPOUT = 0.5  # after fc6 and fc7, as in VGG


class AtrousClassifier(nn.Module):
    """One atrous convolution to classes. On a backbone with fully connected layers the atrous convolution is
    fc6, followed by a 1x1 fc7 and a 1x1 classifier (v1, section 3.1; v2, figure 7). N channels h w to N
    num_classes h w. width: channels of fc6 and fc7.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, *, kernel_size: int, rate: int, width: int
    ) -> None:
        super().__init__()
        padding = rate * (kernel_size // 2)
        if backbone.fully_connected:
            self.fc6 = nn.Conv2d(backbone.channels, width, kernel_size, padding=padding, dilation=rate)
            self.fc7 = nn.Conv2d(width, width, 1)
            self.classify = nn.Conv2d(width, num_classes, 1)
            for layer in (self.fc6, self.fc7):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            self.classify = nn.Conv2d(
                backbone.channels, num_classes, kernel_size, padding=padding, dilation=rate
            )
        nn.init.normal_(self.classify.weight, std=0.01)  # as in the released code
        self.fully_connected = backbone.fully_connected

    def forward(self, x: Tensor) -> Tensor:
        if self.fully_connected:
            for layer in (self.fc6, self.fc7):
                x = F.dropout(F.relu(layer(x), inplace=True), DROPOUT, training=self.training)
        return self.classify(x)
