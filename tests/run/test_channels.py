"""A data set of four channels: the data set says how many there are and what they are, nothing else does."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import deeplabx
from deeplabx import registry
from deeplabx.backbone.normalization import IMAGENET, Normalization
from deeplabx.command.evaluate import measured
from deeplabx.command.train import train
from deeplabx.config import schema
from deeplabx.dataset.contract import Sample, SegmentationSet, Statistics
from deeplabx.errors import ConfigError, DataError
from deeplabx.run.build import normalization_of, open_dataset
from deeplabx.run.description import stored_model
from tests.conftest import TINY

STATISTICS = Statistics((100.0, 110.0, 120.0, 130.0), (10.0, 20.0, 30.0, 40.0))


@dataclass
class InfraredSettings(schema.DatasetSettings):
    pass


class Infrared(SegmentationSet):
    """Noise, with a class that only the fourth channel shows."""

    classes = ["ground", "plant"]
    palette = [(0, 0, 0), (0, 255, 0)]
    channels = 4
    statistics: Statistics | None = STATISTICS

    def __init__(self, *, split: str, root: str | None = None) -> None:
        self.seed = len(split)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        image = rng.integers(0, 256, (33, 33, 4), dtype=np.uint8)
        return Sample(image, (image[..., 3] > 127).astype(np.uint8))


@pytest.fixture
def infrared(own_options: None) -> None:
    registry.register("dataset", "infrared", build=Infrared, settings=InfraredSettings, words="")


def test_a_run_of_four_channels_trains_and_is_evaluated(infrared: None, tmp_path: Path) -> None:
    settings = [one for one in TINY if not one.startswith("dataset.")]
    train(deeplabx.compose(["dataset=infrared", *settings]), tmp_path, overrides=[])
    found = stored_model(str(tmp_path))
    assert found.description.normalization == Normalization(*STATISTICS)
    predictor = found.predictor()
    assert next(predictor.model.parameters()).shape[1] == 4
    with pytest.raises(DataError, match="the image has 3 channels, the model needs 4"):
        predictor.ids(np.zeros((40, 40, 3), np.uint8))
    metrics = measured(found, False, None)
    assert metrics.miou == json.loads((tmp_path / "result.json").read_text())["miou"]


def test_pixels_are_normalised_by_the_data_sets_own_statistics(infrared: None) -> None:
    model = deeplabx.build_model("deeplabv3", backbone="resnet18", num_classes=2, in_channels=4)
    found = normalization_of(model, open_dataset("infrared", split="train"), of_weights=IMAGENET)
    pixel = found(torch.tensor([[[[110, 130, 150, 170]]]], dtype=torch.uint8))
    assert pixel.flatten().tolist() == [1.0, 1.0, 1.0, 1.0]


def test_channels_without_statistics_are_refused(infrared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Infrared, "statistics", None)
    model = deeplabx.build_model("deeplabv3", backbone="resnet18", num_classes=2, in_channels=4)
    with pytest.raises(ConfigError, match="the images have 4 channels, but mean and std have 3"):
        normalization_of(model, open_dataset("infrared", split="train"), of_weights=None)
