"""Samples that worker processes or a thread read ahead: the same ones, in the same order, with the same
errors.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from deeplabx.dataset import arrivals as arrivals_module
from deeplabx.dataset import workers as workers_module
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import Read, SampleReader
from deeplabx.errors import DataError, ResourceError
from deeplabx.process.signals import ignore_signals


class Sizes(SegmentationSet):
    """Eight images of different sizes that hold their own index. at_five: what reading image 5 does."""

    classes, palette = ["a"], [(0, 0, 0)]

    def __init__(self, at_five: Callable[[], object] = int) -> None:
        self.at_five = at_five

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        if index == 5:
            self.at_five()
        return Sample(
            np.full((9 + index, 7, 3), index, np.uint8), np.full((9 + index, 7), index % 2 * 255, np.uint8)
        )


class Wide(Sizes):
    """The same with more classes than a byte holds."""

    classes, palette = [str(number) for number in range(300)], [(0, 0, 0)] * 300
    ignore_index = 65535

    def __getitem__(self, index: int) -> Sample:
        image, label = super().__getitem__(index)
        return Sample(image, label.astype(np.uint16) + 40)


@contextmanager
def reader_of(
    samples: SegmentationSet, *, workers: int = 2, skip: bool = False, shared: bool = True, most: int = 2**20
) -> Iterator[SampleReader]:
    reader = SampleReader(
        ReadableSet(samples, skip_unreadable=skip),
        workers=workers,
        worker_init=ignore_signals,
        shared_memory=shared,
        most_bytes=most,
        memory=lambda: "1.0 GiB of 2.0 GiB are free",
    )
    try:
        yield reader
    finally:
        reader.close()
    deadline = time.monotonic() + 5
    while multiprocessing.active_children():
        assert time.monotonic() < deadline


def taken(found: Iterable[Read | None]) -> list[Read]:
    return [one for one in found if one is not None]


def running() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


@pytest.mark.parametrize("samples", [Sizes(), Wide()])
@pytest.mark.parametrize(("workers", "shared"), [(0, True), (2, True), (2, False)])
def test_every_sample_comes_as_it_is_and_in_its_order(
    samples: SegmentationSet, workers: int, shared: bool
) -> None:
    order = [7, 0, 3, 3, 1]
    with reader_of(samples, workers=workers, shared=shared) as reader:
        found = taken(reader.read(order))
    for index, one in zip(order, found, strict=True):
        assert one.sample is not None
        assert np.array_equal(one.sample.image, samples[index].image)
        assert np.array_equal(one.sample.label, samples[index].label)
        assert one.unreadable == []


def test_workers_stay_from_one_pass_to_the_next() -> None:
    with reader_of(Sizes()) as reader:
        assert running() == set()
        taken(reader.read(range(8)))
        first = running()
        assert len(first) == 2
        for order in ([4, 2], [], range(8)):
            assert [one.sample.image[0, 0, 0] for one in taken(reader.read(order)) if one.sample] == [*order]
        assert running() == first


def test_a_pass_that_is_left_ends_the_workers_and_the_next_starts_new_ones() -> None:
    with reader_of(Sizes()) as reader:
        found = reader.read(range(8))
        assert taken([next(found)])
        first = running()
        found.close()
        assert running() == set()
        assert len(taken(reader.read(range(8)))) == 8
        assert not first & running()


def damaged() -> None:
    raise DataError("five.png: damaged")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_an_error_at_its_turn_or_comes_with_its_words(workers: int) -> None:
    with reader_of(Sizes(damaged), workers=workers) as reader:
        found = reader.read(range(8))
        assert len([next(one for one in found if one is not None) for _ in range(5)]) == 5
        with pytest.raises(DataError, match=r"^five.png: damaged$"):
            taken(found)
    with reader_of(Sizes(damaged), workers=workers, skip=True) as reader:
        for _ in range(2):
            read = taken(reader.read(range(8)))
            assert [one.sample is None for one in read] == [index == 5 for index in range(8)]
            assert [words for one in read for words in one.unreadable] == ["five.png: damaged"]


def out_of_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize("workers", [0, 1])
def test_memory_that_runs_out_is_said_with_the_place_of_the_image(workers: int) -> None:
    words = r"^out of memory, reading image 6 of 8\nthe image is too large"
    with (
        reader_of(Sizes(out_of_memory), workers=workers) as reader,
        pytest.raises(ResourceError, match=words),
    ):
        taken(reader.read(range(8)))


def test_a_full_shared_memory_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch>: No space left (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with reader_of(Sizes()) as reader, pytest.raises(ResourceError, match=r"^shared memory \(/dev/shm\)"):
        taken(reader.read(range(8)))


def test_a_worker_that_is_lost_in_a_pass_or_between_two_is_an_error_in_words() -> None:
    words = r"^loader worker [12] of 2 was killed \(SIGKILL\), .*1.0 GiB"
    killed = Sizes(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with reader_of(killed) as reader, pytest.raises(ResourceError, match=words):
        taken(reader.read(range(8)))
    with reader_of(Sizes()) as reader:
        taken(reader.read(range(8)))
        worker = multiprocessing.active_children()[0]
        worker.kill()
        worker.join()
        with pytest.raises(ResourceError, match=words):
            taken(reader.read(range(8)))


def test_a_read_that_does_not_end_lets_the_caller_act_and_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals_module, "POLL", 0.05)
    monkeypatch.setattr(workers_module, "GRACE", 0.1)
    os.mkfifo(tmp_path / "stalled")
    with reader_of(Sizes(lambda: (tmp_path / "stalled").read_bytes())) as reader:
        found = reader.read(range(8))
        while next(found) is not None:
            pass
        begin = time.monotonic()
        found.close()
        assert time.monotonic() - begin < 3


# --- large images -------------------------------------------------------------------------------------------


class Noting(LabelledFiles):
    """Three images of 40 x 30 pixels and one of 80 x 30; notes which processes read each."""

    classes, palette = ["a"], [(0, 0, 0)]

    def __init__(self, folder: Path) -> None:
        pairs = [(folder / f"{number}.png", folder / f"{number}-label.png") for number in range(4)]
        for number, (image, label) in enumerate(pairs):
            size = (80 if number == 2 else 40, 30)
            Image.new("RGB", size, (number, 0, 0)).save(image)
            Image.new("L", size).save(label)
        super().__init__(pairs, label_map=LabelMap({0: 0}))
        self.notes = folder

    def read_raw(self, path: Path):  # type: ignore[no-untyped-def]
        with (self.notes / path.stem).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} ")
        return super().read_raw(path)


def test_an_image_that_is_larger_than_the_limit_is_read_by_the_main_process(tmp_path: Path) -> None:
    samples = Noting(tmp_path)
    with reader_of(samples, most=40 * 30 * 4) as reader:
        found = taken(reader.read(range(4)))
    assert [one.sample.image.shape for one in found if one.sample] == [
        (30, 80 if number == 2 else 40, 3) for number in range(4)
    ]
    readers = [(tmp_path / f"{number}-label").read_text(encoding="utf-8").split() for number in range(4)]
    assert [one == [str(os.getpid())] for one in readers] == [False, False, True, False]
