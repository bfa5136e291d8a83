"""What `import deeplabx` offers to a notebook."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.command.compose import training_config as compose
from deeplabx.registry import register
from deeplabx.run.build import build_model
from deeplabx.run.description import stored_model

__all__ = ["build_model", "compose", "load", "register"]


def load(ckpt: str | Path) -> nn.Module:
    """The model of a run or checkpoint, in evaluation mode, with `classes`, `palette` and `preprocess`.

    `preprocess` takes a uint8 image H x W x channels to the 1 x channels x H x W that the model expects.
    """
    found = stored_model(str(ckpt))
    model, normalization = found.predictor().model, found.description.normalization

    def preprocess(image: np.ndarray) -> Tensor:
        return normalization(torch.from_numpy(np.ascontiguousarray(image))[None])

    model.classes = found.description.classes  # type: ignore[assignment]
    model.palette = found.description.palette  # type: ignore[assignment]
    model.preprocess = preprocess  # type: ignore[assignment]
    return model
