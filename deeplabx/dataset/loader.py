"""Batches addressed by (seed, step): the data of a step does not depend on workers, processes, or where a run
was resumed.
"""

import functools
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deeplabx.dataset.contract import widened
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import ConfigError, DataError, DeeplabxError

MOST_UNREADABLE = 100  # images in a row: the data set is probably elsewhere

Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Address(NamedTuple):
    epoch: int
    image: int


class Batch(NamedTuple):
    images: Tensor  # uint8 N x H x W x channels
    labels: Tensor  # uint8 N x H x W, int32 of more than 254 classes
    unreadable: list[str]  # error messages of files that were replaced by others


class BatchAddresses:
    """The addresses of each remaining step's batch. The stream of shuffled epochs has no gap: a batch may end
    one epoch and begin the next, so no image is left out and no batch is incomplete. Each of `world_size`
    processes takes every world_size-th address of a batch, starting at its rank.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.first_step, self.last_step = first_step, last_step
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[Address]]:
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first_step, self.last_step):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append(Address(epoch, int(order[position % self.length])))
            yield batch[self.rank :: self.world_size]


class Example(NamedTuple):
    image: np.ndarray  # uint8 H x W x channels
    label: np.ndarray  # H x W
    unreadable: list[str]


class AugmentedSet(Dataset):
    """Augmented samples; the random numbers of each are a function of (seed, epoch, index).

    A skipped image is replaced by the next readable one. An error is returned as a value: raised in a worker
    process, it would arrive as that process's traceback.
    """

    def __init__(self, samples: ReadableSet, augment: Augment, *, seed: int) -> None:
        self.samples, self.augment, self.seed = samples, augment, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, address: Address) -> Example | DeeplabxError:
        try:
            for offset in range(min(len(self), MOST_UNREADABLE)):
                sample = self.samples.read((address.image + offset) % len(self))
                if sample is not None:
                    random = np.random.default_rng([self.seed, address.epoch, address.image])
                    image, label = self.augment(sample.image, sample.label, random)
                    return Example(image, label, self.samples.take_errors())
        except DeeplabxError as error:
            return error
        errors = self.samples.take_errors()
        return DataError(
            f"{len(errors)} images in a row cannot be read, the first: {errors[0]}",
            hint="is dataset.root the right one?",
        )


def stack(examples: list[Example | DeeplabxError]) -> Batch | DeeplabxError:
    found: list[Example] = []
    for example in examples:
        if isinstance(example, DeeplabxError):
            return example
        found.append(example)
    shapes = {(one.image.shape, one.label.shape) for one in found}
    if len(shapes) > 1:
        return ConfigError(f"the augmentation returned crops of different sizes: {sorted(shapes)}")
    images, labels = (
        torch.from_numpy(np.stack(arrays))
        for arrays in ([one.image for one in found], [widened(one.label) for one in found])
    )
    return Batch(images, labels, [words for one in found for words in one.unreadable])


def training_batches(
    samples: ReadableSet,
    augment: Augment,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    workers: int,
    pin_memory: bool,
    worker_init: Callable[[int], None] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[Batch, None, None]:
    """This process's part of the batch of each step in first_step..last_step-1. Raises the DataError of the
    first sample that cannot be read, unless `samples` skips it. worker_init: called in each worker as it
    starts.

    Close the generator when it is not read to its end: its workers ignore TERM, and the interpreter would
    wait for them forever.
    """
    loader = DataLoader(
        AugmentedSet(samples, augment, seed=seed),
        batch_sampler=BatchAddresses(
            len(samples),
            batch_size=batch_size,
            seed=seed,
            first_step=first_step,
            last_step=last_step,
            rank=rank,
            world_size=world_size,
        ),
        collate_fn=stack,
        num_workers=workers,
        worker_init_fn=functools.partial(prepare_worker, then=worker_init),
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader would draw from the generator that dropout uses
    )
    for batch in loader:
        if isinstance(batch, DeeplabxError):
            raise batch
        yield Batch(*batch)


def prepare_worker(worker: int, *, then: Callable[[int], None] | None) -> None:
    cv2.setNumThreads(0)
    if then is not None:
        then(worker)
