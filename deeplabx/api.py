"""What `import deeplabx` offers to a notebook."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.build import described, network, restored
from deeplabx.model import DeepLab


def build_model(
    name: str,
    *,
    backbone: str,
    num_classes: int,
    output_stride: int | None = None,
    in_channels: int = 3,
    backbone_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> DeepLab:
    """A model with random weights: `build_model("deeplabv3plus", backbone="resnet101", num_classes=21)`.

    Called on normalised images N x in_channels x H x W it gives logits N x num_classes x H x W.
    output_stride: 8, 16 or 32; None for that of the paper, 8 for v1 and v2, 16 for v3 and v3+. `settings` are
    the model's own, such as atrous_rates; `backbone_settings` the backbone's, such as multi_grid.
    """
    stride = {} if output_stride is None else {"output_stride": output_stride}
    of_backbone = {"in_channels": in_channels, **stride, **(backbone_settings or {})}
    return network(name, backbone, num_classes=num_classes, of_backbone=of_backbone, of_model=settings)


def load(ckpt: str | Path) -> nn.Module:
    """The model of a run or checkpoint, in evaluation mode, with `classes`, `palette` and `preprocess`.

    `preprocess` takes a uint8 RGB image H x W x 3 to the 1 x 3 x H x W that the model expects.
    """
    found = described(str(ckpt))
    model, normalization = restored(found).model, found.description.normalization

    def preprocess(image: np.ndarray) -> Tensor:
        return normalization(torch.from_numpy(np.ascontiguousarray(image))[None])

    model.classes = found.description.classes  # type: ignore[assignment]
    model.palette = found.description.palette  # type: ignore[assignment]
    model.preprocess = preprocess  # type: ignore[assignment]
    return model
