import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.dataset import arrivals, workers
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import SampleReader
from deeplabx.engine import evaluator
from deeplabx.engine.evaluator import (
    InterruptedEvaluationError,
    evaluate,
    refuse_other_classes,
)
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.predictor import Predictor, pad
from deeplabx.engine.windows import window_starts
from deeplabx.errors import CheckpointError, DataError, ResourceError
from deeplabx.model.crf import DenseCRF
from deeplabx.process.signals import StopRequest, ignore_signals
from deeplabx.run.build import open_dataset

PLAIN = Normalization(mean=(10.4, 20.6, 30.0), std=(1.0, 1.0, 1.0))
CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Class by the red channel of each pixel alone: what an image's surroundings are cannot matter."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, :1] + 10.4
        return torch.cat([100 - red, red - 100, red * 0 - 500], dim=1)


class Sizes(nn.Module):
    """Notes the size of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        self.last = torch.zeros(0)

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        self.last = images
        return torch.zeros(1, 2, *images.shape[-2:])


class Divide(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, logits: Tensor) -> Tensor:
        return logits / self.by


IMAGE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
EXPECTED = (IMAGE[..., 0] > 100).astype(int)


@pytest.mark.parametrize(
    "settings",
    [{}, {"crop": (64, 48)}, {"window": 16}, {"window": 64}, {"flip": True}, {"window": 20, "flip": True}],
)
def test_every_way_gives_a_pixelwise_models_answer(settings: dict) -> None:
    ids = Predictor(Brightness(), PLAIN, CPU, **settings).ids(IMAGE)
    assert ids.shape == (37, 53)
    assert (ids.numpy() == EXPECTED).all()


def test_several_scales_average_and_agree_on_a_smooth_image() -> None:
    columns = np.linspace(0, 255, 64)
    image = np.tile(columns[None, :, None], (48, 1, 3)).astype(np.uint8)
    ids = Predictor(Brightness(), PLAIN, CPU, scales=[0.5, 1.0, 2.0]).ids(image)
    expected = image[..., 0] > 100
    assert (ids.numpy() == expected).mean() > 0.97


def test_scales_are_of_the_image() -> None:
    model = Sizes()
    Predictor(model, PLAIN, CPU, scales=[0.5, 1.5], flip=True).ids(IMAGE)
    assert [shape[-2:] for shape in model.seen] == [(18, 26), (18, 26), (56, 80), (56, 80)]


def test_the_crop_pads_right_and_below_with_the_rounded_mean_pixel() -> None:
    model = Sizes()
    Predictor(model, PLAIN, CPU, crop=(40, 60)).ids(IMAGE)
    assert model.seen == [(1, 3, 40, 60)]
    assert torch.allclose(model.last[0, :, -1, -1], torch.tensor([10 - 10.4, 21 - 20.6, 0.0]), atol=1e-5)
    assert torch.allclose(
        model.last[0, :, 0, 0], torch.from_numpy(IMAGE[0, 0]).float() - torch.tensor(PLAIN.mean), atol=1e-5
    )


def test_a_larger_image_is_not_cut_to_the_crop() -> None:
    model = Sizes()
    Predictor(model, PLAIN, CPU, crop=(20, 60)).ids(IMAGE)
    assert model.seen == [(1, 3, 37, 60)]


@pytest.mark.parametrize("length", [5, 16, 17, 40, 100])
def test_windows_cover_everything_and_stay_inside(length: int) -> None:
    covered = np.zeros(length, int)
    for start in window_starts(length, 16):
        assert start + 16 <= max(length, 16)
        covered[start : start + 16] += 1
    assert covered.min() >= 1


def test_padding_leaves_the_image_where_it_is() -> None:
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    padded = pad(image, 3, 4, (7, 8, 9))
    assert padded.shape == (1, 3, 4, 3)
    assert torch.equal(padded[:, :2, :2], image)
    assert padded[0, 2, 3].tolist() == [7, 8, 9]


def test_the_models_mode_is_restored() -> None:
    samples = open_dataset("shapes", split="val", train_images=1, val_images=2)

    class Seven(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training
            return torch.zeros(1, 7, *images.shape[-2:])

    model = Seven().train()
    result = evaluate(Predictor(model, PLAIN, CPU), samples)
    assert model.training
    assert 0 < result.pixel_accuracy < 1  # all background


def test_another_data_sets_classes_are_refused() -> None:
    samples = open_dataset("shapes", split="val", train_images=1, val_images=2)
    with pytest.raises(CheckpointError, match="has 2 classes"):
        refuse_other_classes(samples, ["a", "b"], source="step-1")
    names = list(samples.classes)
    with pytest.raises(CheckpointError, match=f"; class 5 is {names[6]} in one, {names[5]} in the other"):
        refuse_other_classes(samples, [*names[:5], names[6], names[5]], source="step-1")
    with pytest.raises(CheckpointError, match=f"; class 6 is none in one, {names[6]} in the other"):
        refuse_other_classes(samples, names[:6], source="step-1")


@pytest.mark.parametrize("flip", [False, True])
def test_the_crf_refines_the_probabilities_of_one_view_and_of_several(flip: bool) -> None:
    model, crf = Brightness(), DenseCRF(2, bilateral_rgb=20.0)
    image = torch.from_numpy(IMAGE)
    softmax = (model(PLAIN(image[None])) / 50).softmax(dim=1)[0]
    expected = crf(image, softmax).argmax(dim=0)
    assert not torch.equal(expected, softmax.argmax(dim=0))
    soft = nn.Sequential(model, Divide(50))
    assert torch.equal(Predictor(soft, PLAIN, CPU, flip=flip, crf=crf).ids(IMAGE), expected)


# --- signals, stalled disks, memory -------------------------------------------------------------------------


class Reading(SegmentationSet):
    """Four images. at_two: what reading image 2 does."""

    classes, palette = ["dark", "bright", "none"], [(0, 0, 0)] * 3

    def __init__(self, at_two: Callable[[], object] = int) -> None:
        self.at_two = at_two
        self.read: list[int] = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if index == 2:
            self.at_two()
        return Sample(IMAGE, EXPECTED.astype(np.uint8))


def evaluated(at_two: Callable[[], object], *, model: nn.Module | None = None, **settings: Any) -> Metrics:
    predictor = Predictor(model or Brightness(), PLAIN, CPU, **settings)
    with StopRequest() as stop:
        return evaluate(predictor, ReadableSet(Reading(at_two)), stop=stop)


def test_a_signal_is_heard_while_an_image_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "POLL", 0.05)
    stalled = threading.Event()

    def stall() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        stalled.wait(20)

    begin = time.monotonic()
    with pytest.raises(InterruptedEvaluationError) as interrupted:
        evaluated(stall)
    assert interrupted.value.number == signal.SIGTERM
    assert time.monotonic() - begin < 5
    stalled.set()


def test_a_signal_is_heard_while_a_worker_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "POLL", 0.05)
    monkeypatch.setattr(workers, "GRACE", 0.1)
    os.mkfifo(tmp_path / "stalled")

    def stall() -> None:
        os.kill(os.getppid(), signal.SIGTERM)
        (tmp_path / "stalled").read_bytes()

    samples = ReadableSet(Reading(stall))
    reader = SampleReader(samples, workers=1, worker_init=ignore_signals)
    begin = time.monotonic()
    with StopRequest() as stop, pytest.raises(InterruptedEvaluationError) as interrupted:
        evaluate(Predictor(Brightness(), PLAIN, CPU), samples, reader=reader, stop=stop)
    assert interrupted.value.number == signal.SIGTERM
    while multiprocessing.active_children():  # it was killed
        assert time.monotonic() - begin < 5


def test_workers_change_nothing_of_the_result() -> None:
    def damaged() -> None:
        raise DataError("two.png: damaged")

    predictor = Predictor(Brightness(), PLAIN, CPU)
    expected = evaluate(predictor, ReadableSet(Reading(damaged), skip_unreadable=True))
    samples = ReadableSet(Reading(damaged), skip_unreadable=True)
    with closing(SampleReader(samples, workers=2, worker_init=ignore_signals)) as reader:
        processes = []
        for _ in range(2):
            found = evaluate(predictor, samples, reader=reader)
            assert found.to_plain() == expected.to_plain()
            assert (found.images, found.unreadable) == (3, ["two.png: damaged"])
            processes.append({one.pid for one in multiprocessing.active_children()})
        assert len(processes[0]) == 2
        assert processes[0] == processes[1]  # they stay
    assert multiprocessing.active_children() == []


def test_an_image_that_never_arrives_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrivals, "POLL", 0.02)
    monkeypatch.setattr(arrivals, "PATIENCE", 0.3)
    monkeypatch.setattr(evaluator, "POLL", 30.0)
    stalled = threading.Event()
    with pytest.raises(DataError, match=r"no image was read in 0 s"):
        evaluated(lambda: stalled.wait(20))
    assert capsys.readouterr().err.count("waited 60 s for an image") == 1
    stalled.set()


@pytest.mark.parametrize(
    "settings", [{"window": 16}, {"scales": [0.5, 1.0, 2.0]}, {"flip": True}, {"window": 16, "flip": True}]
)
def test_a_signal_is_heard_between_the_passes_of_one_image(settings: dict[str, Any]) -> None:
    class Signalled(Sizes):
        def forward(self, images: Tensor) -> Tensor:
            if len(self.seen) == 0:
                os.kill(os.getpid(), signal.SIGUSR1)
            return torch.cat([super().forward(images), images[:, :1] * 0], dim=1)

    model = Signalled()
    with pytest.raises(InterruptedEvaluationError) as interrupted:
        evaluated(int, model=model, **settings)
    assert interrupted.value.number == signal.SIGUSR1
    assert len(model.seen) == 1


def test_no_image_is_read_long_before_it_is_needed() -> None:
    samples = Reading()
    found = SampleReader(ReadableSet(samples)).read(range(4))
    assert next(found) is not None
    time.sleep(0.1)
    assert samples.read == [0, 1]
    found.close()


def test_an_unreadable_image_is_an_error_at_its_turn_or_listed() -> None:
    def broken() -> None:
        raise DataError("two.png: damaged")

    seen = Sizes()
    with pytest.raises(DataError, match=r"^two.png: damaged$"):
        evaluated(broken, model=seen)
    assert len(seen.seen) == 2
    samples = ReadableSet(Reading(broken), skip_unreadable=True)
    result = evaluate(Predictor(Brightness(), PLAIN, CPU), samples)
    assert (result.images, result.unreadable) == (3, ["two.png: damaged"])


def test_an_image_too_large_for_the_memory_is_named_by_its_place() -> None:
    def large() -> None:
        raise MemoryError

    with pytest.raises(ResourceError, match=r"^out of memory, reading image 3 of 4\nthe image is too large"):
        evaluated(large)


def test_a_network_too_large_for_the_memory_says_what_to_set() -> None:
    class Large(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried "
                "to allocate 53687091200 bytes. Error code 12 (Cannot allocate memory)"
            )

    words = (
        r"^out of memory: 50.0 GiB more needed, for an image of 53 x 37 pixels\n"
        "set eval.window=513 first, then fewer eval.scales$"
    )
    with pytest.raises(ResourceError, match=words):
        evaluated(int, model=Large())
