"""What the commands may ask of a model."""

from torch import nn

from deeplabx.backbone.contract import Backbone


class DeepLab(nn.Module):
    """Normalised pictures N x 3 x H x W to logits N x num_classes x H x W. The parameters outside `backbone` are the head's."""

    backbone: Backbone
