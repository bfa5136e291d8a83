"""A checkpoint's stand-in with a network of one convolution, for tests of what a prediction writes."""

from pathlib import Path
from typing import Any

import torch

from deeplabx.backbone.normalization import MINUS_ONE_TO_ONE
from deeplabx.dataset.labels import voc_palette
from deeplabx.engine.predictor import Predictor
from deeplabx.run.description import StoredModel, stored_model


class Standin(StoredModel):
    """What a checkpoint says of itself, with another network."""

    def predictor(self) -> Predictor:
        torch.manual_seed(0)
        network: Any = torch.nn.Conv2d(3, len(self.description.classes), 3, padding=1).eval()
        return Predictor(network, MINUS_ONE_TO_ONE, torch.device("cpu"))


def standin(run: Path, *, classes: list[str] | None = None) -> Standin:
    found = stored_model(str(run))
    names = classes or found.description.classes
    description = found.description._replace(classes=names, palette=voc_palette(len(names)))
    return Standin(found.checkpoint, description, found.warnings)
