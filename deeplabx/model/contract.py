"""What the commands may ask of a model, and what all models share."""

from collections.abc import Sequence
from math import ceil
from typing import TypedDict

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.model.auxiliary import AuxiliaryHead
from deeplabx.model.layers import resize


class Shared(TypedDict, total=False):
    """Settings that every model takes; see `DeepLab`."""

    align_corners: bool
    auxiliary_weight: float | None


class DeepLab(nn.Module):
    """Normalised images N x in_channels x H x W to logits N x num_classes x H x W, any H and W from one
    output stride up.

    In training mode logits are as large as every `label_stride`-th label: N x num_classes x
    ceil(H/label_stride) x ceil(W/label_stride); and a model that is also taught elsewhere than at its end
    gives a list of them, one for each of `loss_weights`, the first being the prediction.

    align_corners: of every resize. auxiliary_weight: of the loss of a second head, None for none.
    """

    # The multi-grid of a backbone that has one, where no other is given; None: DeepLabv3's.
    multi_grid: Sequence[int] | None = ()
    reference_stride = 16  # the output stride that its atrous rates are written for

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        align_corners: bool = True,
        auxiliary_weight: float | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.align_corners = align_corners
        self.label_stride = 1
        self.auxiliary = AuxiliaryHead(backbone.auxiliary_channels, num_classes) if auxiliary_weight else None
        self.loss_weights: tuple[float, ...] = (1.0, auxiliary_weight) if auxiliary_weight else (1.0,)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        stride = self.label_stride if self.training else 1
        size = [ceil(side / stride) for side in images.shape[-2:]]
        outputs = [resize(logits, size, align_corners=self.align_corners) for logits in self.outputs(images)]
        return outputs if len(outputs) > 1 else outputs[0]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """The prediction's logits, and in training those of each further loss, at the network's own
        resolution.
        """
        features = self.backbone(images)
        outputs = [self.logits(features)]
        if self.auxiliary is not None and self.training:
            outputs.append(self.auxiliary(features.auxiliary))
        return outputs

    def logits(self, features: Features) -> Tensor:
        """N x num_classes x h x w."""
        raise NotImplementedError

    def in_head(self, parameter: str) -> bool:
        """Whether a parameter, by its name, belongs to what no classification network has: its learning rate
        may be a multiple of the others'.
        """
        return not parameter.startswith("backbone.")
