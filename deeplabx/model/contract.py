"""The interface of a model and what all models share."""

from collections.abc import Sequence
from math import ceil

from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.model.auxiliary import AuxiliaryHead
from deeplabx.model.resize import resize


class DeepLab(nn.Module):
    """Normalised images N x in_channels x H x W to logits N x num_classes x H x W. H and W must be at least
    the output stride.

    In training mode logits are N x num_classes x ceil(H/label_stride) x ceil(W/label_stride): one for the
    label of every `label_stride`-th pixel. A model with several losses then returns a list of logits, one
    entry for each of `loss_weights`; the first is the prediction.

    align_corners: for every resize. auxiliary_weight: weight of the auxiliary head's loss, None for no such
    head.
    """

    # Default multi-grid of a backbone that has one; None: DeepLabv3's.
    multi_grid: Sequence[int] | None = ()
    reference_stride = 16  # output stride for which the atrous rates are stated

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
        size: Sequence[int] = images.shape[-2:]
        if self.training:
            size = [ceil(side / self.label_stride) for side in size]
        outputs = [resize(logits, size, align_corners=self.align_corners) for logits in self.outputs(images)]
        return outputs if len(outputs) > 1 else outputs[0]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """The logits of the prediction and, in training mode, of each further loss, before resizing."""
        features = self.backbone(images)
        outputs = [self.logits(features)]
        if self.auxiliary is not None and self.training:
            outputs.append(self.auxiliary(features.auxiliary))
        return outputs

    def logits(self, features: Features) -> Tensor:
        """N x num_classes x h x w."""
        raise NotImplementedError

    def in_head(self, parameter: str) -> bool:
        """Whether the parameter of this name is new, not part of a pretrained classification network. New
        parameters may have a higher learning rate.
        """
        return not parameter.startswith("backbone.")
