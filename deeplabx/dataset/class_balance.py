"""What a count of the training labels gives: class weights, and the images that show each class."""

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.workers import loaded, prepare_worker
from deeplabx.errors import DataError, DeeplabxError, memory_error

LABELS = 8  # that a worker counts per batch
BETA = 0.9999  # the largest value tried in 1901.05555
SAMPLE = 32 * 32  # pixels


class PixelCounts(NamedTuple):
    """Pixel counts of the classes in order, at least 1 each. Pixels of the ignore index are not counted."""

    own: np.ndarray  # pixels of the class
    around: np.ndarray  # pixels of the images that hold the class


class LabelCounts(Dataset):
    """The counts of each label, int64 2 x classes, that `count_pixels` sums. An error is returned as a value,
    as in AugmentedSet.
    """

    def __init__(self, samples: ReadableSet, indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray | DeeplabxError:
        classes = len(self.samples.classes)
        try:
            label = self.samples.read_label(self.indices[index])
        except DataError as error:
            return error
        except Exception as error:
            full = memory_error(error)
            if full is None:
                raise
            return full
        if label is None:
            return np.zeros((2, classes), np.int64)
        own = np.bincount(label.reshape(-1), minlength=classes)[:classes]
        return np.stack([own, np.where(own > 0, own.sum(), 0)])


def total(counts: list[np.ndarray | DeeplabxError]) -> np.ndarray | DeeplabxError:
    """An array, which goes through a worker's pipe: a tensor would need shared memory."""
    tables = [count for count in counts if isinstance(count, np.ndarray)]
    errors = [count for count in counts if isinstance(count, DeeplabxError)]
    return errors[0] if errors else np.sum(tables, axis=0)


def shown(counts: list[np.ndarray | DeeplabxError]) -> np.ndarray | DeeplabxError:
    """bool labels x classes, of `classes_shown`."""
    tables = [count[0] > 0 for count in counts if isinstance(count, np.ndarray)]
    errors = [count for count in counts if isinstance(count, DeeplabxError)]
    return errors[0] if errors else np.stack(tables)


def count_pixels(
    samples: ReadableSet,
    indices: Sequence[int],
    *,
    workers: int,
    worker_init: Callable[[int], None] | None = None,
    memory: Callable[[], str] | None = None,
) -> Tensor:
    """int64 2 x classes over the images of these indices: the pixels of each class, and those of the images
    that hold it.

    Raises the DataError of the first label that cannot be read, unless `samples` skips it, and ResourceError
    when a worker is lost. worker_init, memory: see `training_batches`.
    """
    found = torch.zeros(2, len(samples.classes), dtype=torch.int64)
    parts = counted(samples, indices, total, workers=workers, worker_init=worker_init, memory=memory)
    with contextlib.closing(parts):
        for counts in parts:
            found += torch.from_numpy(counts)
    return found


def classes_shown(
    samples: ReadableSet,
    indices: Sequence[int],
    *,
    workers: int,
    worker_init: Callable[[int], None] | None = None,
    memory: Callable[[], str] | None = None,
) -> np.ndarray:
    """bool images x classes: whether the label of each of these images has a pixel of the class. Errors as in
    `count_pixels`; a label that is skipped shows none.
    """
    parts = counted(samples, indices, shown, workers=workers, worker_init=worker_init, memory=memory)
    with contextlib.closing(parts):
        tables = list(parts)
    return np.concatenate(tables) if tables else np.zeros((0, len(samples.classes)), bool)


def counted(
    samples: ReadableSet,
    indices: Sequence[int],
    collate: Callable[[list[np.ndarray | DeeplabxError]], np.ndarray | DeeplabxError],
    *,
    workers: int,
    worker_init: Callable[[int], None] | None,
    memory: Callable[[], str] | None,
) -> Generator[np.ndarray]:
    """What `collate` makes of the counts of each LABELS labels, in order."""
    loader: DataLoader = DataLoader(
        LabelCounts(samples, indices),
        batch_size=LABELS,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=functools.partial(prepare_worker, then=worker_init),
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    with contextlib.closing(loaded(loader, what="group of labels", memory=memory)) as parts:
        yield from (counts for counts in parts if counts is not None)


# --- weights ------------------------------------------------------------------------------------------------


def median_frequency(counts: PixelCounts) -> np.ndarray:
    """median(f) / f of the frequency f of a class in the images that hold it (1411.4734)."""
    frequency = counts.own / counts.around
    return np.median(frequency) / frequency


def enet(counts: PixelCounts) -> np.ndarray:
    """1 / ln(1.02 + p) of a class's share p of all pixels (1606.02147)."""
    return 1 / np.log(1.02 + counts.own / counts.own.sum())


def effective_number(counts: PixelCounts) -> np.ndarray:
    """(1 - beta) / (1 - beta^n) of a class's n samples (1901.05555).

    A sample is an area of 32 x 32 pixels, one feature of a classification network: counted in single pixels,
    every class has so many samples that all weights would be equal. Only classes with fewer than about
    1 / (1 - beta) = 10,000 samples get a larger weight.
    """
    return (1 - BETA) / -np.expm1(counts.own / SAMPLE * np.log(BETA))


BALANCES: dict[str, Callable[[PixelCounts], np.ndarray]] = {
    "median_frequency": median_frequency,
    "enet": enet,
    "effective_number": effective_number,
}


def balanced_weights(name: str, counts: Tensor) -> list[float]:
    """The class weights by method `name`, from the result of `count_pixels`. Their mean over the counted
    pixels is 1, so the scale of the loss, and with it the learning rate, stays the same; six digits are kept.
    A class without pixels gets weight 1.
    """
    own, around = counts.numpy()
    there = own > 0
    weights = np.ones(len(own))
    found = BALANCES[name](PixelCounts(own[there], around[there]))
    weights[there] = found * own.sum() / (found * own[there]).sum()
    return [float(f"{weight:.6g}") for weight in weights]
