"""A data set of four channels: the data set says how many there are and what they are, nothing else does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplabx import registry
from deeplabx.backbone.contract import Normalization
from deeplabx.command.evaluate import evaluate_config
from deeplabx.config import schema
from deeplabx.dataset.contract import Sample, SegmentationSet, Statistics
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import ConfigError
from tests.conftest import TrainTiny

STATISTICS = Statistics((100.0, 110.0, 120.0, 130.0), (10.0, 20.0, 30.0, 40.0))


@dataclass
class InfraredSettings(schema.DatasetSettings):
    pass


class Infrared(SegmentationSet):
    """Noise, with a class that only the fourth channel shows."""

    classes = ["ground", "plant"]  # noqa: RUF012
    palette = [(0, 0, 0), (0, 255, 0)]  # noqa: RUF012
    channels = 4
    statistics: Statistics | None = STATISTICS

    def __init__(self, *, split: str) -> None:
        self.seed = len(split)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        image = rng.integers(0, 256, (33, 33, 4), dtype=np.uint8)
        return Sample(image, (image[..., 3] > 127).astype(np.uint8))


@pytest.fixture
def infrared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.OPTIONS, "dataset", dict(registry.OPTIONS["dataset"]))
    registry.register("dataset", "infrared", build=Infrared, settings=InfraredSettings, words="")


def test_a_run_of_four_channels(infrared: None, train_tiny: TrainTiny) -> None:
    run = train_tiny("four", "dataset=infrared")
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None
