"""Collects the record of an evaluation, image by image, in each process of a run."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from torch import Tensor

from deeplabx.dataset.contract import Sample, id_dtype
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.record.counts import Cells, ImageCounts
from deeplabx.engine.record.details import Details, details_of
from deeplabx.engine.record.record import MOST_PREDICTIONS, Record, as_png, shrunk
from deeplabx.errors import DivergedError
from deeplabx.model.size import Convolution, noted_convolutions
from deeplabx.process.distributed import cores, gathered, world_size

MOST_THREADS = 8  # that measure details beside a GPU
WAITING = 4  # images for each thread


class Found(NamedTuple):
    """What is known of one image once it is predicted."""

    image: int  # its index in the split
    size: tuple[int, int]  # height, width
    cells: Cells
    seconds: float  # of the prediction


class Measured(NamedTuple):
    """What is made of one image's prediction afterwards. png: of its ids; details: None: not measured."""

    image: int
    png: bytes
    details: Details | None


def measured(
    image: int,
    label: np.ndarray,
    ids: np.ndarray,
    confidence: np.ndarray | None,
    *,
    details: bool,
    num_classes: int,
    ignore_index: int,
) -> Measured:
    if confidence is not None and not np.isfinite(confidence).all():
        raise DivergedError(
            f"the network's output for image {image} of the split is not finite: its weights have diverged",
            hint="earlier checkpoints are intact; try a smaller optimizer.lr, schedule.warmup_iters=100 or "
            "trainer.clip_norm=10",
        )
    png = as_png(shrunk(ids))
    if not details:
        return Measured(image, png, None)
    if label.dtype != ids.dtype:
        label, ids = label.astype(np.uint16), ids.astype(np.uint16)
    found = details_of(label, ids, confidence, num_classes=num_classes, ignore_index=ignore_index)
    return Measured(image, png, found)


class Recorder:
    """Keeps, of each image of this process, what the record of an evaluation holds.

    names, groups: of the split's images; None where they are not files, or the data set does not say.
    details: whether boundaries, objects and calibration are measured too. Beside a GPU, threads measure them
    and compress the predictions, so that it does not wait for that.
    """

    def __init__(
        self,
        samples: ReadableSet,
        *,
        names: Sequence[str] | None,
        groups: Sequence[str] | None,
        dataset: str,
        step: int,
        details: bool = True,
    ) -> None:
        self.samples, self.names, self.groups = samples, names, groups
        self.dataset, self.step, self.measures = dataset, step, details
        self.found: list[Found] = []
        self.details: Details | None = None
        self.predictions: dict[int, bytes] = {}  # PNGs, by index
        self.waiting: deque[Future[Measured]] = deque()
        self.threads: ThreadPoolExecutor | None = None
        self.record: Record | None = None
        self.seconds: list[float] = []  # that each image took to be predicted
        self.multiply_adds = 0  # of the first image; 0 for a file whose convolutions are not modules

    def predict(self, predictor: Predictor, index: int, sample: Sample) -> Tensor:
        """Predict a sample, and note how long that takes."""
        started = time.perf_counter()
        confidence = self.measures and not predictor.gives_ids
        first: AbstractContextManager[list[Convolution]] = nullcontext([])
        if not self.found:
            first = noted_convolutions(predictor.model)
        with first as ran:
            (prediction,) = predictor.predict([sample.image], confidence=confidence)
        self.multiply_adds += sum(one.multiply_adds for one in ran)
        num_classes = len(self.samples.classes)
        ids = prediction.ids.cpu().numpy().astype(id_dtype(num_classes))  # waits for a GPU
        seconds = time.perf_counter() - started
        empty = Cells(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self.found.append(Found(index, ids.shape, empty, seconds))
        sure = None if prediction.confidence is None else prediction.confidence.float().cpu().numpy()
        work = partial(
            measured,
            index,
            sample.label,
            ids,
            sure,
            details=self.measures,
            num_classes=num_classes,
            ignore_index=self.samples.ignore_index,
        )
        if predictor.device.type == "cpu":  # a thread would take the cores from the network
            self.now(work)
        else:
            self.later(work)
        return prediction.ids

    def count(self, confusion: Tensor) -> None:
        """Keep the confusion matrix C x C of the sample that was predicted last."""
        pixels = confusion.flatten().cpu().numpy()
        cell = np.flatnonzero(pixels)
        self.found[-1] = self.found[-1]._replace(cells=Cells(cell, pixels[cell]))

    def now(self, work: Callable[[], Measured]) -> None:
        self.add(work())

    def later(self, work: Callable[[], Measured]) -> None:
        """Do it in a thread; where the threads are behind, wait for the oldest."""
        count = max(1, min(MOST_THREADS, cores() // world_size() - 1))
        if self.threads is None:
            self.threads = ThreadPoolExecutor(count, thread_name_prefix="details")
        self.waiting.append(self.threads.submit(work))
        while len(self.waiting) > WAITING * count:
            self.add(self.waiting.popleft().result())

    def add(self, one: Measured) -> None:
        self.predictions[one.image] = one.png
        if one.details is not None:
            self.details = one.details if self.details is None else self.details.plus(one.details)

    def close(self) -> None:
        """Wait for the threads, and end them."""
        while self.waiting:
            self.add(self.waiting.popleft().result())
        if self.threads is not None:
            self.threads.shutdown()

    def finish(self) -> None:
        """Make the record of all processes, which all must call; `predictions` and `seconds` are of all
        images afterwards.
        """
        found = sorted(gathered(self.found), key=lambda one: one.image)
        parts = gathered([] if self.details is None else [self.details])
        details = reduce(Details.plus, parts) if parts else None
        self.seconds = [one.seconds for one in found]
        self.predictions = first_ones(dict(gathered(list(self.predictions.items()))))
        samples, indices = self.samples, [one.image for one in found]
        names = self.names or [f"{samples.split} {index}" for index in range(len(samples))]
        self.record = Record(
            classes=list(samples.classes),
            palette=list(samples.palette),
            ignore_index=samples.ignore_index,
            dataset=self.dataset,
            split=samples.split,
            step=self.step,
            names=[names[index] for index in indices],
            groups=None if self.groups is None else [self.groups[index] for index in indices],
            indices=np.array(indices, np.int64),
            sizes=np.array([one.size for one in found], np.int64).reshape(-1, 2),
            counts=ImageCounts.of([one.cells for one in found], num_classes=len(samples.classes)),
            details=details,
        )


def first_ones(predictions: dict[int, bytes]) -> dict[int, bytes]:
    """The predictions of the first images, as many as MOST_PREDICTIONS bytes hold."""
    kept, room = {}, MOST_PREDICTIONS
    for index in sorted(predictions):
        room -= len(predictions[index])
        if room < 0:
            break
        kept[index] = predictions[index]
    return kept
