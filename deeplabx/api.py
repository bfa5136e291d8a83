"""What `import deeplabx` offers to a notebook."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.backbone import build_backbone
from deeplabx.build import described, restored
from deeplabx.model import DeepLab, build_head


def build_model(name: str, *, backbone: str, num_classes: int, output_stride: int = 16, **settings: Any) -> DeepLab:
    """A model with random weights: `build_model("deeplabv3plus", backbone="resnet101", num_classes=21)`.

    Called on normalised pictures N x 3 x H x W it gives logits N x num_classes x H x W. `settings` are the model's own, such as atrous_rates.
    """
    return build_head(name, build_backbone(backbone, output_stride=output_stride), num_classes=num_classes, **settings)


def load(ckpt: str | Path) -> nn.Module:
    """The model of a run or checkpoint, in evaluation mode, with `classes`, `palette` and `preprocess`.

    `preprocess` takes a uint8 RGB picture H x W x 3 to the 1 x 3 x H x W that the model expects.
    """
    found = described(str(ckpt))
    model, normalization = restored(found).model, found.description.normalization

    def preprocess(image: np.ndarray) -> Tensor:
        return normalization(torch.from_numpy(np.ascontiguousarray(image))[None])

    model.classes = found.description.classes  # type: ignore[assignment]
    model.palette = found.description.palette  # type: ignore[assignment]
    model.preprocess = preprocess  # type: ignore[assignment]
    return model
