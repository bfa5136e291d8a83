"""What may happen to the processes that read batches. Each becomes an error in words, in seconds."""

import errno
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplabx.dataset import arrivals as arrivals_module
from deeplabx.dataset import loader as loader_module
from deeplabx.dataset import workers as module
from deeplabx.dataset.class_balance import count_pixels
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.loader import Batch, training_batches
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError, DeeplabxError, ResourceError
from deeplabx.process.signals import ignore_signals

SIDE = 64


class Numbers(SegmentationSet):
    """Ten images that hold their own index. at_five: what reading image 5 does."""

    classes, palette = ["a"], [(0, 0, 0)]

    def __init__(self, at_five: Callable[[], object] = int) -> None:
        self.at_five = at_five

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.full((SIDE, SIDE, 3), index, np.uint8), self.label(index))

    def label(self, index: int) -> np.ndarray:
        if index == 5:
            self.at_five()
        return np.zeros((SIDE, SIDE), np.uint8)


def noisy(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return image, rng.integers(0, 200, label.shape, dtype=np.uint8)


def batches(
    at_five: Callable[[], object] = int, *, workers: int = 2, steps: int = 5, shared_memory: bool = True
) -> Generator[Batch | None]:
    return training_batches(
        ReadableSet(Numbers(at_five)),
        noisy,
        batch_size=4,
        seed=5,
        first_step=0,
        last_step=steps,
        workers=workers,
        pin_memory=False,
        worker_init=ignore_signals,
        memory=lambda: "1.0 GiB of 2.0 GiB are free",
        shared_memory=shared_memory,
    )


def arrived(found: Iterator[Batch | None]) -> list[Batch]:
    return [batch for batch in found if batch is not None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals_module, "POLL", 0.05)
    monkeypatch.setattr(module, "GRACE", 0.1)


# --- how batches are sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_pipes_and_shared_memory_bring_the_same_bytes(workers: int) -> None:
    whole = arrived(batches(workers=0))
    for shared in (True, False):
        found = arrived(batches(workers=workers, shared_memory=shared))
        assert [batch.images.is_shared() for batch in found] == [shared] * len(whole)
        for one, other in zip(whole, found, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
            assert one.labels.dtype == other.labels.dtype == torch.uint8


def test_shared_memory_that_is_full_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: Tensor) -> Tensor:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
        )

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with pytest.raises(
        ResourceError,
        match=r"^shared memory \(/dev/shm\) cannot be used: No space left on device\n.*shm-size",
    ):
        arrived(batches())
    assert len(arrived(batches(shared_memory=False))) == 5


def test_a_batch_that_cannot_be_sent_is_an_error_and_no_endless_wait(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unsendable(batch: Batch) -> object:
        return lambda: batch

    monkeypatch.setattr(loader_module, "Piped", unsendable)
    monkeypatch.setattr(arrivals_module, "PATIENCE", 20.0)  # if the standard library drops the method
    with pytest.raises(DataError, match=r"a loader worker could not send a batch: .*pickle"):
        arrived(batches(shared_memory=False))
    assert capfd.readouterr().err == ""


# --- workers that are lost or stuck -------------------------------------------------------------------------


def killed_by(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def leaves(code: int) -> Callable[[], None]:
    return lambda: os._exit(code)


@pytest.mark.parametrize(
    ("at_five", "words"),
    [
        (
            killed_by(signal.SIGKILL),
            r"was killed \(SIGKILL\), as when memory runs out; 1.0 GiB of 2.0 GiB",
        ),
        (killed_by(signal.SIGALRM), r"crashed \(SIGALRM\); 1.0 GiB .*\ntrainer.workers=0 shows"),
        (killed_by(signal.SIGBUS), r"crashed \(SIGBUS\), as when /dev/shm is full"),
        (leaves(3), "exited with code 3"),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_lost_worker_is_noticed_in_seconds(at_five: Callable[[], None], words: str, shared: bool) -> None:
    begin = time.monotonic()
    with pytest.raises(ResourceError, match=f"^loader worker [12] of 2 {words}"):
        arrived(batches(at_five, shared_memory=shared))
    assert time.monotonic() - begin < 5
    assert multiprocessing.active_children() == []


def test_a_worker_that_just_leaves_is_noticed_too() -> None:
    with pytest.raises(ResourceError, match="exited"):
        arrived(batches(lambda: sys.exit(0)))


def test_a_worker_killed_in_the_middle_of_sending_a_large_batch_is_noticed(quick: None) -> None:
    """Its message stays unfinished, and the lock of the queue with it."""
    found = batches(workers=1, shared_memory=False, steps=40)
    assert next(batch for batch in found if batch is not None) is not None
    time.sleep(0.3)  # the pipe is full: 64 KiB of a batch of 64 KiB and more
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(ResourceError, match="SIGKILL"):
        arrived(found)
    assert time.monotonic() - begin < 5


def test_torchs_own_handler_does_not_raise_in_the_middle_of_something_else(quick: None) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    found = batches(steps=40)
    next(found)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    time.sleep(0.05)  # a step, or a save: nothing is raised here
    with pytest.raises(ResourceError):
        arrived(found)
    handler = signal.getsignal(signal.SIGCHLD)
    assert handler == before or "signal_handling" in getattr(handler, "__module__", "")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_read_that_does_not_end_is_an_error_and_leaves_no_process(
    workers: int, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals_module, "PATIENCE", 0.5)
    os.mkfifo(tmp_path / "stalled")
    with pytest.raises(DataError, match=r"^no batch was read in 0 s"):
        arrived(batches(lambda: (tmp_path / "stalled").read_bytes(), workers=workers))
    assert multiprocessing.active_children() == []
    release(tmp_path / "stalled")


def test_leaving_while_a_worker_is_stuck_does_not_take_long(tmp_path: Path, quick: None) -> None:
    os.mkfifo(tmp_path / "stalled")
    found = batches(lambda: (tmp_path / "stalled").read_bytes())
    while next(found) is not None:
        pass
    begin = time.monotonic()
    found.close()
    assert time.monotonic() - begin < 3
    assert multiprocessing.active_children() == []


def release(fifo: Path) -> None:
    """Let the thread that reads it end."""
    with fifo.open("r+b", buffering=0):
        time.sleep(0.05)


def test_workers_leave_no_thread_behind() -> None:
    before = set(threading.enumerate())
    found = batches()
    next(found)
    found.close()
    deadline = time.monotonic() + 10
    while any(one.name == "reading each batch" for one in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- memory -------------------------------------------------------------------------------------------------


def out_of_memory() -> None:
    raise MemoryError


def too_large_an_array() -> None:
    np.empty((2**20, 2**30), np.float64)


def cv2_out_of_memory() -> None:
    raise RuntimeError(
        "OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 3221225472 bytes in "
        "function 'OutOfMemoryError'"
    )


@pytest.mark.parametrize(
    ("at_five", "words"),
    [
        (out_of_memory, "^out of memory\n"),
        (
            too_large_an_array,
            r"^out of memory: 8.00 PiB more needed, for an array of \(1048576, 10",
        ),
        (cv2_out_of_memory, "^out of memory: 3.0 GiB more needed"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_memory_that_runs_out_in_a_worker_is_said(
    at_five: Callable[[], None], words: str, workers: int
) -> None:
    with pytest.raises(ResourceError, match=words):
        arrived(batches(at_five, workers=workers))


@pytest.mark.parametrize("at_five", [killed_by(signal.SIGKILL), out_of_memory])
def test_counting_labels_ends_in_words_too(at_five: Callable[[], None]) -> None:
    with pytest.raises(ResourceError, match="memory"):
        count_pixels(ReadableSet(Numbers(at_five)), range(10), workers=2)


# --- workers that cannot be started -------------------------------------------------------------------------


def test_semaphores_that_cannot_be_created_are_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(multiprocessing, "Lock", full)
    with pytest.raises(ResourceError, match=r"2 loader workers cannot be started: .*\n.*trainer.workers=0"):
        next(batches())
    assert next(batches(workers=0)) is not None


@pytest.mark.parametrize(
    "error", [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), OSError(errno.ENOMEM, "no")]
)
def test_a_process_that_cannot_be_started_is_an_error_in_words(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise error

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(ResourceError, match=rf"cannot be started: {error.strerror}; 1.0 GiB of 2.0 GiB"):
        next(batches())


def test_a_limit_on_open_files_is_an_error_in_words() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = batches(steps=9)
    next(found)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no more than are open now
    try:
        with pytest.raises(DeeplabxError, match=r"(?i)too many open files"):
            list(found)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
