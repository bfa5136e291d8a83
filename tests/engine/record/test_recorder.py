"""What an evaluation records, against its metrics and against loops over the raw arrays."""

import hashlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.record import recorder as recorders
from deeplabx.engine.record.details import details_of
from deeplabx.engine.record.record import Predictions, Record, write_predictions
from deeplabx.engine.record.recorder import Recorder
from deeplabx.errors import DivergedError
from deeplabx.run.build import open_dataset

IMAGES = 7


class Linear(nn.Module):
    """Class scores from the colours of each pixel alone."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Conv2d(3, classes, 1, bias=False)
        self.mix.weight.data = torch.randn(classes, 3, 1, 1, generator=generator) * 0.02

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.mix(images)
        return found


@pytest.fixture(scope="module")
def samples() -> ReadableSet:
    return open_dataset("shapes", split="val", train_images=1, val_images=IMAGES)


def predictor(samples: ReadableSet, **settings: object) -> Predictor:
    plain = Normalization(mean=(128.0, 128.0, 128.0), std=(1.0, 1.0, 1.0))
    model = Linear(len(samples.classes))
    return Predictor(model, plain, torch.device("cpu"), **settings)  # type: ignore[arg-type]


def recorder_of(samples: ReadableSet, *, details: bool = True) -> Recorder:
    groups = [f"group {index // 3}" for index in range(len(samples))]
    return Recorder(samples, names=None, groups=groups, dataset="shapes", step=3, details=details)


@pytest.fixture(scope="module")
def evaluated(samples: ReadableSet) -> tuple[Metrics, Recorder]:
    recorder = recorder_of(samples)
    return evaluate(predictor(samples), samples, recorder=recorder), recorder


def test_the_matrices_of_the_images_add_up_to_the_metrics(evaluated: tuple[Metrics, Recorder]) -> None:
    result, recorder = evaluated
    assert recorder.record is not None
    confusion = recorder.record.counts.confusion()
    assert hashlib.sha256(confusion.tobytes()).hexdigest() == result.confusion_sha256
    assert recorder.record.counts.images == result.images == IMAGES


def test_each_image_is_counted_and_measured_as_its_arrays_say(
    samples: ReadableSet, evaluated: tuple[Metrics, Recorder]
) -> None:
    record = evaluated[1].record
    assert record is not None
    assert record.details is not None
    own, total = predictor(samples), None
    for index in range(IMAGES):
        image, label = samples[index]
        (prediction,) = own.predict([image], probabilities=True)
        ids = prediction.ids.numpy().astype(np.uint8)
        assert prediction.probabilities is not None
        confidence = prediction.probabilities.max(dim=0).values.numpy()
        for one in range(len(samples.classes)):
            for other in range(len(samples.classes)):
                pixels = int(((label == one) & (ids == other)).sum())
                assert record.counts.pixels_of(one, other)[index] == pixels
        measured = details_of(label, ids, confidence, num_classes=len(samples.classes), ignore_index=255)
        total = measured if total is None else total.plus(measured)
        assert record.sizes[index].tolist() == list(label.shape)
    assert total is not None
    for name, value in vars(total).items():
        assert np.allclose(getattr(record.details, name), value, rtol=1e-6), name
    assert record.names[2] == "val 2"
    assert record.groups == ["group 0"] * 3 + ["group 1"] * 3 + ["group 2"]


def test_the_sums_of_the_details_are_those_of_the_matrix(evaluated: tuple[Metrics, Recorder]) -> None:
    record = evaluated[1].record
    assert record is not None
    assert record.details is not None
    assert record.details.calibration is not None
    confusion = record.counts.confusion()
    assert record.details.calibration[:, 0].sum() == confusion.sum()
    assert record.details.calibration[:, 1].sum() == confusion.trace()
    right, labelled, found = record.details.distance.sum(axis=0).T
    assert (right <= confusion.diagonal()).all()
    assert (labelled <= confusion.sum(axis=1)).all()
    assert (found <= confusion.sum(axis=0)).all()


def test_predictions_are_kept(
    samples: ReadableSet, evaluated: tuple[Metrics, Recorder], tmp_path: Path
) -> None:
    write_predictions(tmp_path, evaluated[1].predictions)
    kept = Predictions(tmp_path)
    assert kept.indices() == set(range(IMAGES))
    expected = predictor(samples).ids(samples[4].image).numpy()
    assert np.array_equal(np.asarray(kept.ids(4)), expected)


def test_beyond_the_room_for_predictions_the_first_are_kept(samples: ReadableSet) -> None:
    recorder = recorder_of(samples, details=False)
    with mock.patch.object(recorders, "MOST_PREDICTIONS", 3000):
        evaluate(predictor(samples), samples, recorder=recorder)
    assert 0 < len(recorder.predictions) < IMAGES
    assert sum(map(len, recorder.predictions.values())) <= 3000
    assert recorder.record is not None
    assert recorder.record.counts.images == IMAGES


def test_without_details_the_rest_is_the_same(
    samples: ReadableSet, evaluated: tuple[Metrics, Recorder], tmp_path: Path
) -> None:
    recorder = recorder_of(samples, details=False)
    result = evaluate(predictor(samples), samples, recorder=recorder)
    assert result == evaluated[0]
    assert recorder.record is not None
    assert recorder.record.details is None
    recorder.record.write(tmp_path)
    assert Record.read(tmp_path).details is None


def test_threads_beside_a_gpu_measure_the_same(
    samples: ReadableSet, evaluated: tuple[Metrics, Recorder]
) -> None:
    recorder = recorder_of(samples)
    with mock.patch.object(recorder, "now", recorder.later):
        evaluate(predictor(samples), samples, recorder=recorder)
    same(recorder, evaluated[1])


def same(found: Recorder, expected: Recorder) -> None:
    """That two evaluations left the same record."""
    one, other = found.record, expected.record
    assert one is not None
    assert other is not None
    assert (one.names, one.groups, one.step) == (other.names, other.groups, other.step)
    for name in ("image", "cell", "pixels"):
        assert np.array_equal(getattr(one.counts, name), getattr(other.counts, name))
    assert np.array_equal(one.indices, other.indices)
    assert np.array_equal(one.sizes, other.sizes)
    assert one.details is not None
    assert other.details is not None
    for name in ("boundary", "distance", "objects", "calibration"):
        # floats are added in another order
        assert np.allclose(getattr(one.details, name), getattr(other.details, name), rtol=1e-12), name
    assert found.predictions == expected.predictions


def test_the_shares_of_two_processes_are_one_record(
    samples: ReadableSet, evaluated: tuple[Metrics, Recorder]
) -> None:
    parts = [recorder_of(samples) for _ in range(2)]
    own = predictor(samples)
    for index in range(IMAGES):
        label = samples.label(index)
        recorder = parts[index % 2]
        ids = recorder.predict(own, index, samples[index])
        labelled = torch.from_numpy(label.astype(np.int64))
        matrix = torch.zeros(len(samples.classes), len(samples.classes), dtype=torch.int64)
        for one, other in zip(labelled.flatten().tolist(), ids.flatten().tolist(), strict=True):
            if one != samples.ignore_index:
                matrix[one, other] += 1
        recorder.count(matrix)
    answers = [
        [one for part in parts for one in part.found],
        [part.details for part in parts],
        [one for part in parts for one in part.predictions.items()],
    ]
    with mock.patch.object(recorders, "gathered", side_effect=answers):
        parts[0].finish()
    same(parts[0], evaluated[1])


def test_a_model_that_gives_ids_has_no_calibration(samples: ReadableSet) -> None:
    class Ids(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).argmax(dim=1, keepdim=True)

    own = predictor(samples, gives_ids=True)
    own = Predictor(Ids(len(samples.classes)), own.normalization, own.device, gives_ids=True)
    recorder = recorder_of(samples)
    evaluate(own, samples, recorder=recorder)
    assert recorder.record is not None
    assert recorder.record.details is not None
    assert recorder.record.details.calibration is None
    assert recorder.record.details.boundary.any()


@pytest.mark.slow
def test_two_processes_write_the_record_of_one(tiny_run: Path, tmp_path: Path) -> None:
    from tests.conftest import python

    for count in (1, 2):
        settings = [f"trainer.devices={count}", f"hydra.run.dir={count}"]
        done = python("-m", "deeplabx", "eval", tiny_run, *settings, cwd=tmp_path)
        assert done.code == 0, done.err
    one, two = (Record.read(tmp_path / name) for name in ("1", "2"))
    for name in ("image", "cell", "pixels"):
        assert np.array_equal(getattr(one.counts, name), getattr(two.counts, name))
    assert one.names == two.names
    assert one.details is not None
    assert two.details is not None
    assert np.array_equal(one.details.boundary, two.details.boundary)
    assert np.array_equal(one.details.distance, two.details.distance)
    assert np.allclose(one.details.objects, two.details.objects, rtol=1e-12)
    assert (tmp_path / "1" / "predictions.zip").stat().st_size == (
        tmp_path / "2" / "predictions.zip"
    ).stat().st_size


def test_a_network_whose_output_is_not_finite_is_not_measured(samples: ReadableSet) -> None:
    diverged = predictor(samples)
    next(diverged.model.parameters()).data[0] = torch.nan
    with pytest.raises(DivergedError, match="output for image 0 of the split is not finite"):
        evaluate(diverged, samples, recorder=recorder_of(samples))
