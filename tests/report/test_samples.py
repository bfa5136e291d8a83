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
from deeplabx.run.build import open_dataset
from tests.conftest import Root

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


def written(panels: SamplePanels) -> list[list[int]]:
    """The value in the middle of image, label and prediction, one line for each row."""
    rows = [panels.rows[index] for index in sorted(panels.rows)]
    found = []
    for row in rows:
        middle = (row.image.shape[0] // 2, row.image.shape[1] // 2)
        ids = row.label if row.predicted is None else row.predicted
        found.append([int(row.image[middle][0]), int(row.label[middle]), int(ids[middle])])
    return found


def test_samples_are_spread_over_the_split(predictor: Predictor) -> None:
    panels = SamplePanels(ReadableSet(Numbered(), skip_unreadable=True), count=3)
    panels.add_rest(predictor)
    assert written(panels) == [[0, 0, 0], [3, 0, 1], [6, 0, 0]]


def test_what_an_evaluation_predicted_is_not_predicted_again(model: Parity, predictor: Predictor) -> None:
    samples = ReadableSet(Numbered(), skip_unreadable=True)
    panels, alone = SamplePanels(samples, count=9), SamplePanels(samples, count=9)
    evaluate(predictor, samples, predicted_one=panels.add)
    calls = model.calls
    panels.add_rest(predictor)
    assert model.calls == calls == 8  # the broken one has no prediction
    alone.add_rest(predictor)
    assert written(panels) == written(alone)
    assert len(written(panels)) == 8


def test_a_process_that_evaluated_half_predicts_the_other_half(model: Parity, predictor: Predictor) -> None:
    samples = ReadableSet(Numbered(), skip_unreadable=True)
    panels = SamplePanels(samples, count=3)
    sample = samples.read(3)
    assert sample is not None
    panels.add(3, sample, predictor.ids(sample.image))
    panels.add(5, sample, predictor.ids(sample.image))  # not one of those that are shown
    panels.add_rest(predictor)
    assert model.calls == 4
    assert written(panels) == [[0, 0, 0], [3, 0, 1], [6, 0, 0]]


def test_a_row_has_the_name_of_its_sample_and_the_miou_of_its_image(predictor: Predictor) -> None:
    panels = SamplePanels(ReadableSet(Numbered(), split="val"), count=3)
    panels.add_rest(predictor)
    assert [row.name for row in panels.rows.values()] == ["val 0", "val 3", "val 6"]
    assert [row.iou for row in panels.rows.values()] == [1.0, 0.0, 1.0]  # the label is 0 everywhere
    void = Sample(np.zeros((5, 4, 3), np.uint8), np.full((5, 4), 255, np.uint8))
    panels.add(3, void, torch.zeros(5, 4, dtype=torch.int64))
    assert panels.rows[3].iou is None


def test_the_name_of_a_file_is_that_of_the_sample(fake_root: Root) -> None:
    found = open_dataset("voc", split="val", root=str(fake_root("voc")))
    panels = SamplePanels(found, count=2)
    panels.add_rest(None)
    names = [path.stem for path, _ in found.samples.pairs]  # type: ignore[attr-defined]
    assert [row.name for row in panels.rows.values()] == [names[0], names[len(names) // 2]]


def test_without_a_predictor_image_and_label_are_shown(tmp_path: Path) -> None:
    panels = SamplePanels(ReadableSet(Numbered()), count=3)
    panels.add_rest(None)
    sheet = panels.write(tmp_path / "a.png")
    assert [row.predicted for row in panels.rows.values()] == [None] * 3
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), sheet)  # type: ignore[arg-type]


def test_nothing_to_show_is_no_file(tmp_path: Path) -> None:
    assert SamplePanels(ReadableSet(Numbered()), count=0).write(tmp_path / "a.png") is None
    assert not (tmp_path / "a.png").exists()
