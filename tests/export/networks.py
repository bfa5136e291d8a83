"""A network small enough to be exported in a second, and a checkpoint of it."""

from pathlib import Path

import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.normalization import IMAGENET
from deeplabx.config import schema
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.run.build import dataset_of, model_of
from deeplabx.run.description import Description
from tests.conftest import compose_plain

SETTINGS = [
    *("model=deeplabv3", "model.channels=8", "backbone=slim", "backbone.output_stride=8"),
    *("dataset.train_images=3", "dataset.val_images=2", "augment.crop_size=65"),
]


class Slim(Backbone):
    """Three strided convolutions of 8 channels: image pooling and resizing are all there is besides."""

    channels = low_level_channels = middle_channels = auxiliary_channels = 8
    output_stride = 8
    normalization, separable, atrous_branches = IMAGENET, False, False

    def __init__(self, *, output_stride: int = 8, in_channels: int = 3) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(number, 8, 3, 2, 1) for number in (in_channels, 8, 8))

    def forward(self, images: Tensor) -> Features:
        first = self.stages[0](images).relu()
        low = self.stages[1](first).relu()
        high = self.stages[2](low).relu()
        return Features(low, high, high, high)


def register_slim() -> None:
    deeplabx.register("backbone", "slim", build=Slim, settings=schema.BackboneSettings, words="for tests")


def slim_model(*, num_classes: int = 5, align_corners: bool = True, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return deeplabx.build_model(
        "deeplabv3",
        backbone="slim",
        output_stride=8,
        num_classes=num_classes,
        channels=8,
        align_corners=align_corners,
    ).eval()


def write_slim(folder: Path) -> Path:
    """A checkpoint of it, untrained, for `shapes`."""
    config = compose_plain(*SETTINGS)
    samples = dataset_of(config.dataset, split="val")
    torch.manual_seed(0)
    model = model_of(config, num_classes=len(samples.classes), in_channels=3)
    description = Description(
        config, list(samples.classes), samples.palette, samples.ignore_index, model.backbone.normalization
    )
    checkpoints.write_untrained(
        folder, model.state_dict(), description=description.to_plain(), report="for tests"
    )
    return folder
