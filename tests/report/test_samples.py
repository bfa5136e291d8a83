from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deeplabx.backbone.normalization import Normalization
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import DataError
from deeplabx.report.samples import SamplePanels

BROKEN = 4


class Numbered(SegmentationSet):
    """Image i has the value i in all pixels and label 0; one image is broken."""

    classes = ["even", "odd"]
    palette = [(1, 1, 1), (2, 2, 2)]

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Sample:
        if index == BROKEN:
            raise DataError("broken")
        return Sample(np.full((5, 4, 3), index, np.uint8), np.zeros((5, 4), np.uint8))


class Parity(torch.nn.Module):
    """Predicts class 1 for an odd image; counts its calls."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        odd = images[:, :1] % 2
        return torch.cat([1 - odd, odd], dim=1)


@pytest.fixture
def model() -> Parity:
    return Parity()


@pytest.fixture
def predictor(model: Parity) -> Predictor:
    return Predictor(model, Normalization((0.0,) * 3, (1.0,) * 3), torch.device("cpu"))


def written(panels: SamplePanels, path: Path) -> list[list[int]]:
    """The value in the middle of image, label and prediction, one line for each panel."""
    panels.write(path)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return [[int(pixels[row, column, 0]) for column in (2, 6, 10)] for row in range(2, len(pixels), 5)]


def test_samples_are_spread_over_the_split(predictor: Predictor, tmp_path: Path) -> None:
    panels = SamplePanels(ReadableSet(Numbered(), skip_unreadable=True), count=3)
    panels.add_rest(predictor)
    assert written(panels, tmp_path / "a.png") == [[0, 1, 1], [3, 1, 2], [6, 1, 1]]


def test_what_an_evaluation_predicted_is_not_predicted_again(
    model: Parity, predictor: Predictor, tmp_path: Path
) -> None:
    samples = ReadableSet(Numbered(), skip_unreadable=True)
    panels, alone = SamplePanels(samples, count=9), SamplePanels(samples, count=9)
    evaluate(predictor, samples, predicted_one=panels.add)
    calls = model.calls
    panels.add_rest(predictor)
    assert model.calls == calls == 8  # the broken one has no prediction
    alone.add_rest(predictor)
    assert written(panels, tmp_path / "a.png") == written(alone, tmp_path / "b.png")
    assert len(written(panels, tmp_path / "a.png")) == 8


def test_a_process_that_evaluated_half_predicts_the_other_half(
    model: Parity, predictor: Predictor, tmp_path: Path
) -> None:
    samples = ReadableSet(Numbered(), skip_unreadable=True)
    panels = SamplePanels(samples, count=3)
    sample = samples.read(3)
    assert sample is not None
    panels.add(3, sample, predictor.ids(sample.image))
    panels.add(5, sample, predictor.ids(sample.image))  # not one of those that are shown
    panels.add_rest(predictor)
    assert model.calls == 4
    assert written(panels, tmp_path / "a.png") == [[0, 1, 1], [3, 1, 2], [6, 1, 1]]


def test_without_a_predictor_image_and_label_are_shown(tmp_path: Path) -> None:
    panels = SamplePanels(ReadableSet(Numbered()), count=3)
    panels.add_rest(None)
    panels.write(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2 * 4, 3 * 5)


def test_nothing_to_show_is_no_file(tmp_path: Path) -> None:
    SamplePanels(ReadableSet(Numbered()), count=0).write(tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
