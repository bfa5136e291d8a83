"""Batches addressed by (seed, step): the data of a step does not depend on workers, processes, or where a run
was resumed.
"""

import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deeplabx.dataset.contract import Sample, widened
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.workers import loaded, prepare_worker
from deeplabx.errors import ConfigError, DataError, DeeplabxError, memory_error, resource_error

MOST_UNREADABLE = 100  # images in a row: the data set is probably elsewhere
PREFETCH = 2  # batches that each worker reads ahead

# An image and its label; of a mix, the images and labels of this process's part of a batch
Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Mix = Augment
OF_SLOTS, OF_CLASSES, OF_MIX = 1, 2, 3  # kinds of generators beside those of epochs and samples


class Address(NamedTuple):
    """Where a sample's image and its random numbers come from. Of one that was drawn by class, `wanted` is
    the class, and `epoch` its position in the stream of all samples.
    """

    epoch: int
    image: int
    wanted: int | None = None

    @property
    def key(self) -> list[int]:
        """What seeds its random numbers, beside the run's seed. A last 0 would not count."""
        return [self.epoch, self.image, *([] if self.wanted is None else [1 + self.wanted])]


class ClassSampling(NamedTuple):
    """A share of the samples that are drawn by class. images: for each class of the training labels, the
    indices of the images that show it; of an absent class there are none.
    """

    share: float
    images: Sequence[np.ndarray]

    def drawn_before(self, position: int) -> int:
        """How many of the first samples are drawn by class. The share is kept to six digits, as a whole
        number, so that the count of any position needs no other's.
        """
        return position * round(self.share * 1_000_000) // 1_000_000

    def address(self, position: int, *, seed: int) -> Address:
        """Each class that is there is equally likely, then each of its images."""
        rng = np.random.default_rng([seed, position, 0, 0, OF_CLASSES])
        there = [number for number, images in enumerate(self.images) if len(images)]
        wanted = there[rng.integers(len(there))]
        images = self.images[wanted]
        return Address(position, int(images[rng.integers(len(images))]), wanted)


class LoadTime(NamedTuple):
    """Seconds that reading and augmenting took, and CPU seconds of them: for the rest it waited for the disk
    or for a core.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def plus(self, other: "LoadTime") -> "LoadTime":
        return LoadTime(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


class Batch(NamedTuple):
    images: Tensor  # uint8 N x H x W x channels
    labels: Tensor  # uint8 N x H x W, int32 of more than 254 classes
    unreadable: list[str]  # error messages of files that were replaced by others
    load_time: LoadTime = LoadTime()


class BatchAddresses:
    """The addresses of each remaining step's batch. The stream of shuffled epochs has no gap: a batch may end
    one epoch and begin the next, so no image is left out and no batch is incomplete. Each of `world_size`
    processes takes every world_size-th address of a batch, starting at its rank.

    sampling: samples drawn by class come between those of the shuffled epochs, at random places of each
    batch; they leave none of these out, so that an epoch takes as many more steps.
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
        sampling: ClassSampling | None = None,
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.first_step, self.last_step = first_step, last_step
        self.rank, self.world_size = rank, world_size
        self.sampling = sampling

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[Address]]:
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first_step, self.last_step):
            start, end = step * self.batch_size, (step + 1) * self.batch_size
            by_class = self.by_class(step)
            first, last = start - self.drawn_before(start), end - self.drawn_before(end)
            batch = []
            for position in range(first, last):  # among the samples of the shuffled epochs
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                batch.append(Address(epoch, int(order[position % self.length])))
            for slot in sorted(by_class):
                batch.insert(slot, by_class[slot])
            yield batch[self.rank :: self.world_size]

    def drawn_before(self, position: int) -> int:
        return self.sampling.drawn_before(position) if self.sampling else 0

    def by_class(self, step: int) -> dict[int, Address]:
        """The addresses of a batch that are drawn by class, by their place in it."""
        start = step * self.batch_size
        count = self.drawn_before(start + self.batch_size) - self.drawn_before(start)
        if self.sampling is None or not count:
            return {}
        slots = np.random.default_rng([self.seed, step, 0, 0, OF_SLOTS]).permutation(self.batch_size)[:count]
        return {int(slot): self.sampling.address(start + int(slot), seed=self.seed) for slot in slots}


class Example(NamedTuple):
    image: np.ndarray  # uint8 H x W x channels
    label: np.ndarray  # H x W
    unreadable: list[str]
    load_time: LoadTime = LoadTime()
    address: Address = Address(0, 0)


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
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            for offset in range(min(len(self), MOST_UNREADABLE)):
                sample = self.samples.read((address.image + offset) % len(self))
                if sample is not None:
                    random = np.random.default_rng([self.seed, *address.key])
                    image, label = self.augmented(sample, random, wanted=address.wanted)
                    load_time = LoadTime(time.perf_counter() - began, time.thread_time() - cpu_began)
                    return Example(image, label, self.samples.take_errors(), load_time, address)
        except DeeplabxError as error:
            return error
        except Exception as error:
            full = memory_error(error)
            if full is None:
                raise
            return full
        errors = self.samples.take_errors()
        return DataError(
            f"{len(errors)} images in a row cannot be read, the first: {errors[0]}",
            hint="is dataset.root the right one?",
        )

    def augmented(
        self, sample: Sample, random: np.random.Generator, *, wanted: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """wanted: the class that the sample was drawn for. Its crop shows it, if the augmentation has
        `around`; else the image does.
        """
        around = None if wanted is None else getattr(self.augment, "around", None)
        if around is None:
            return self.augment(sample.image, sample.label, random)
        return around(sample.image, sample.label, random, wanted)


class Stack:
    """Makes one process's part of a batch of its examples, mixed as `mix` says. The random numbers of the mix
    are a function of the seed and of the addresses of all examples.
    """

    def __init__(self, mix: Mix | None = None, *, seed: int = 0) -> None:
        self.mix, self.seed = mix, seed

    def __call__(self, examples: list[Example | DeeplabxError]) -> Batch | DeeplabxError:
        try:
            batch = stack(examples)
            if self.mix is None or isinstance(batch, DeeplabxError):
                return batch
            keys = [part for one in examples if isinstance(one, Example) for part in (*one.address.key, 1)]
            rng = np.random.default_rng([self.seed, *keys, OF_MIX])
            began, cpu_began = time.perf_counter(), time.thread_time()
            images, labels = self.mix(batch.images.numpy(), batch.labels.numpy(), rng)
            took = LoadTime(time.perf_counter() - began, time.thread_time() - cpu_began)
        except DeeplabxError as error:
            return error
        return batch._replace(
            images=torch.from_numpy(images),
            labels=torch.from_numpy(labels),
            load_time=batch.load_time.plus(took),
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
    load_time = functools.reduce(LoadTime.plus, (one.load_time for one in found))
    return Batch(images, labels, [words for one in found for words in one.unreadable], load_time)


class Piped:
    """A batch that is pickled whole, and so goes through a worker's pipe: a tensor would be put into shared
    memory. It arrives as a Batch.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __reduce__(self) -> tuple[Any, ...]:
        images, labels, *others = self.batch
        return unpiped, (images.numpy(), labels.numpy(), *others)


def unpiped(images: np.ndarray, labels: np.ndarray, unreadable: list[str], load_time: LoadTime) -> Batch:
    return Batch(torch.from_numpy(images), torch.from_numpy(labels), unreadable, load_time)


def stack_to_send(
    examples: list[Example | DeeplabxError],
    *,
    stacked: Callable[[list[Example | DeeplabxError]], Batch | DeeplabxError] = stack,
    shared_memory: bool,
) -> Batch | Piped | DeeplabxError:
    """`stacked` in a worker. An error is returned as a value: the worker could not send it otherwise."""
    try:
        batch = stacked(examples)
        if isinstance(batch, DeeplabxError):
            return batch
        if not shared_memory:
            return Piped(batch)
        # Here, and not by the thread that sends it, so that a full /dev/shm is noticed.
        for tensor in (batch.images, batch.labels):
            tensor.share_memory_()
        return batch
    except (MemoryError, RuntimeError) as error:
        full = resource_error(error)
        if full is None:
            raise
        return full


def pinned_on(device: int) -> Callable[[Batch], Batch]:
    """A function that moves a batch into pinned memory, for the thread that reads batches for this GPU."""

    def pinned(batch: Batch) -> Batch:
        torch.cuda.set_device(device)  # of this thread: otherwise it would use memory of the first GPU
        images, labels = (
            torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            for tensor in (batch.images, batch.labels)
        )
        for target, tensor in ((images, batch.images), (labels, batch.labels)):
            np.copyto(target.numpy(), tensor.numpy())  # in one thread: torch would use all cores
        return batch._replace(images=images, labels=labels)

    return pinned


def batches_at_once(workers: int) -> int:
    """The most batches of one process that exist at once: those that each worker reads ahead, one that the
    main process does, and two that it uses while one replaces the other.
    """
    return PREFETCH * workers + 3 if workers else 2


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
    shared_memory: bool = True,
    memory: Callable[[], str] | None = None,
    mix: Mix | None = None,
    sampling: ClassSampling | None = None,
) -> Generator[Batch | None, None, None]:
    """This process's part of the batch of each step in first_step..last_step-1; None each time that it has
    not arrived within another second.

    Raises the DataError of the first sample that cannot be read, unless `samples` skips it, and ResourceError
    when a worker is lost. worker_init: called in each worker as it starts. shared_memory: whether batches
    come from the workers in shared memory, else through pipes, which is slower. memory: says what memory is
    free, for an error. mix: what is pasted from one image of this process's part of a batch into another.
    sampling: the samples that are drawn by class.

    Close the generator when it is not read to its end: its workers ignore TERM, and the interpreter would
    wait for them forever.
    """
    stacked = Stack(mix, seed=seed)
    loader: DataLoader = DataLoader(
        AugmentedSet(samples, augment, seed=seed),
        batch_sampler=BatchAddresses(
            len(samples),
            batch_size=batch_size,
            seed=seed,
            first_step=first_step,
            last_step=last_step,
            rank=rank,
            world_size=world_size,
            sampling=sampling,
        ),
        collate_fn=functools.partial(stack_to_send, stacked=stacked, shared_memory=shared_memory)
        if workers
        else stacked,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=functools.partial(prepare_worker, then=worker_init),
        generator=torch.Generator(),  # else the loader would draw from the generator that dropout uses
    )
    return loaded(
        loader,
        what="batch",
        memory=memory,
        # not by the loader's own thread, which a worker that is killed can leave waiting forever
        pinned=pinned_on(torch.cuda.current_device()) if pin_memory else None,
    )
