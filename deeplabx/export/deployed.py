"""A model with its preprocessing and its output, as it is exported; and traced, with free sizes."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as tracing

from deeplabx.backbone.normalization import Normalization

# Of the image that is traced: odd, not square, and with features larger than 1 x 1 at every output stride, so
# that no two sizes inside the network are equal by chance.
TRACED = (2, 97, 129)  # images, height, width
INPUT = "images"


class Deployed(nn.Module):
    """preprocess: uint8 N x H x W x C, else normalised float32 N x C x H x W. To logits N x classes x H x W,
    or, with `ids`, to N x H x W, uint8 of up to 256 classes and else int32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, normalization: Normalization, *, preprocess: bool, ids: bool, num_classes: int
    ) -> None:
        super().__init__()
        self.model, self.preprocess, self.ids = model, preprocess, ids
        self.id_type = torch.uint8 if num_classes <= 256 else torch.int32
        self.register_buffer("mean", torch.tensor(normalization.mean))
        self.register_buffer("std", torch.tensor(normalization.std))

    @property
    def channels(self) -> int:
        return len(self.mean)

    def forward(self, images: Tensor) -> Tensor:
        if self.preprocess:
            images = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()
        logits = self.model(images)
        return logits.argmax(dim=1).to(self.id_type) if self.ids else logits


def deployed(
    model: nn.Module, normalization: Normalization, *, preprocess: bool, ids: bool, num_classes: int
) -> Deployed:
    """A copy of `model` on the CPU, in evaluation mode. It is contiguous: in channels_last, tracing takes
    longer.
    """
    own: Any = copy.deepcopy(model)
    own.to(device="cpu", memory_format=torch.contiguous_format)
    made = Deployed(own, normalization, preprocess=preprocess, ids=ids, num_classes=num_classes)
    return made.eval().requires_grad_(False)


def traced(network: Deployed) -> ExportedProgram:
    """The network as a graph whose number of images, height and width are free."""
    images, height, width = TRACED
    example, free = torch.zeros(images, network.channels, height, width), (0, 2, 3)
    if network.preprocess:
        example, free = torch.zeros(images, height, width, network.channels, dtype=torch.uint8), (0, 1, 2)
    sizes = {dimension: Dim.DYNAMIC(min=1) for dimension in free}
    # Oblivious: a size that is 1, as of one image and where image pooling meets 1 x 1, is no special case.
    oblivious = tracing.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with oblivious, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its pytree
        return torch.export.export(network, (example,), dynamic_shapes=(sizes,), strict=False)
