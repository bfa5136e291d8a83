"""Batches addressed by (seed, step): what a step trains on does not depend on workers, on processes, or on where a run was resumed."""

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deeplabx.dataset.contract import SegmentationSet
from deeplabx.errors import DeeplabxError

Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Address(NamedTuple):
    epoch: int
    picture: int


class Batch(NamedTuple):
    images: Tensor  # uint8 N x H x W x 3
    labels: Tensor  # uint8 N x H x W


class BatchAddresses:
    """The addresses of each remaining step's batch. The stream of shuffled epochs has no gap: a batch may end one epoch and begin the next,
    so no picture is left out and no batch is incomplete. Of `world_size` processes each takes every world_size-th of a batch, from its rank on.
    """

    def __init__(
        self, length: int, *, batch_size: int, seed: int, first_step: int, last_step: int, rank: int = 0, world_size: int = 1
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


class AugmentedSet(Dataset):
    """Augmented samples; the random numbers of each are a function of (seed, epoch, index).

    An error of ours is returned as a value: raised in a worker process, it would arrive as that process's traceback.
    """

    def __init__(self, samples: SegmentationSet, augment: Augment, *, seed: int) -> None:
        self.samples, self.augment, self.seed = samples, augment, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, address: Address) -> tuple[np.ndarray, np.ndarray] | DeeplabxError:
        try:
            sample = self.samples[address.picture]
        except DeeplabxError as error:
            return error
        return self.augment(sample.image, sample.label, np.random.default_rng([self.seed, address.epoch, address.picture]))


def stack(samples: list[tuple[np.ndarray, np.ndarray] | DeeplabxError]) -> Batch | DeeplabxError:
    pairs = []
    for sample in samples:
        if isinstance(sample, DeeplabxError):
            return sample
        pairs.append(sample)
    images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
    return Batch(images, labels)


def training_batches(
    samples: SegmentationSet,
    augment: Augment,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    workers: int,
    pin_memory: bool,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[Batch, None, None]:
    """This process's part of the batch of each step in first_step..last_step-1. Raises the DataError of the first sample that cannot be read.

    Close the generator when it is not read to its end: its workers are deaf to TERM, and the interpreter would wait for them for ever.
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
        worker_init_fn=prepare_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader would draw from the generator that dropout uses
    )
    for batch in loader:
        if isinstance(batch, DeeplabxError):
            raise batch
        yield Batch(*batch)


def prepare_worker(worker: int) -> None:
    """One thread per worker, and deaf to the signals that the main process answers: else workers would die first and take the save with them."""
    import signal

    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
