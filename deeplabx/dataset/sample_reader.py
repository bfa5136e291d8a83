"""The samples of a split at their original size, read while the caller works on those before them."""

import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deeplabx.dataset.arrivals import arrivals
from deeplabx.dataset.contract import Sample, widened
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.workers import Pool, prepare_worker
from deeplabx.errors import DeeplabxError, memory_error, resource_error

AHEAD = 1  # images that a thread reads ahead
PREFETCH = 2  # images that each worker reads ahead
MOST_BYTES = 64 * 2**20  # of an image with its label that a worker reads: 4096 x 4096 pixels


class Read(NamedTuple):
    """A sample, or None for one that is skipped, with the error messages of those that were."""

    sample: Sample | None
    unreadable: list[str]


class TooLarge(NamedTuple):
    """The place of an image that the main process reads, so that only two such images exist at once."""

    place: int


class SharedSample(NamedTuple):
    image: Tensor
    label: Tensor


Sent = Read | tuple[SharedSample, list[str]] | TooLarge


def images_at_once(workers: int) -> int:
    """The most images that exist at once beside those that workers decode: those that each worker reads
    ahead, one that the main process does, and the one that it uses.
    """
    return PREFETCH * workers + 2


class SampleReader:
    """Reads samples in the order that they are asked for, ahead of the caller: in worker processes, which
    stay from one pass to the next, or in a thread.

    workers: 0 for the thread. worker_init, memory, shared_memory: see `training_batches`. most_bytes: of an
    image with its label that workers read; larger ones are read by the thread, one ahead. Close it to end the
    workers.
    """

    def __init__(
        self,
        samples: ReadableSet,
        *,
        workers: int = 0,
        worker_init: Callable[[int], None] | None = None,
        shared_memory: bool = True,
        most_bytes: int = MOST_BYTES,
        memory: Callable[[], str] | None = None,
    ) -> None:
        self.samples, self.order = samples, Order()
        self.workers, self.worker_init, self.memory = workers, worker_init, memory
        self.shared_memory, self.most_bytes = shared_memory, most_bytes
        self.pool: Pool[Sent, Read] | None = None  # from the first pass on

    def new_pool(self) -> Pool[Sent, Read]:
        loader: DataLoader[Sent] = DataLoader(
            Originals(self.samples, most_bytes=self.most_bytes),
            batch_size=None,
            sampler=self.order,
            collate_fn=functools.partial(to_send, shared_memory=self.shared_memory),
            num_workers=self.workers,
            prefetch_factor=PREFETCH,
            persistent_workers=True,
            worker_init_fn=functools.partial(prepare_worker, then=self.worker_init),
            generator=torch.Generator(),  # else the loader would draw from the global one
        )
        return Pool(loader, what="image", then=self.arrived, memory=self.memory)

    def read(self, indices: Sequence[int]) -> Generator[Read | None, None, None]:
        """The samples of these indices; None each time that the next one has not arrived within another
        second.

        Raises the DataError of the first that cannot be read, unless `samples` skips it, and ResourceError
        when a worker is lost or memory does not suffice. Close the generator when it is not read to its end.
        """
        if self.workers == 0:
            yield from arrivals(read_here(self.samples, indices), ahead=AHEAD, what="image")
            return
        self.order.indices = indices
        self.pool = self.pool or self.new_pool()
        yield from self.pool.items()

    def arrived(self, sent: Sent) -> Read:
        if isinstance(sent, TooLarge):
            return read_one(self.samples, sent.place)
        if isinstance(sent, Read):
            return sent
        shared, unreadable = sent
        return Read(Sample(shared.image.numpy(), shared.label.numpy()), unreadable)

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()


class Order:
    """The indices of the next pass, for the loader."""

    indices: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def read_here(samples: ReadableSet, indices: Sequence[int]) -> Generator[Read, None, None]:
    for index in indices:
        yield read_one(samples, index)


def read_one(samples: ReadableSet, index: int) -> Read:
    try:
        return Read(samples.read(index), samples.take_errors())
    except DeeplabxError:
        raise
    except Exception as error:
        full = memory_error(error, hint="the image is too large to be decoded in the memory there is")
        if full is None:
            raise
        full.message += f", reading image {index + 1} of {len(samples)}"
        raise full from None


# --- in a worker --------------------------------------------------------------------------------------------


class Originals(Dataset):
    """Samples as they are. An error is returned as a value: raised in a worker process, it would arrive as
    that process's traceback.
    """

    def __init__(self, samples: ReadableSet, *, most_bytes: int) -> None:
        self.samples, self.most_bytes = samples, most_bytes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Read | TooLarge | DeeplabxError:
        try:
            if bytes_of(self.samples, index) > self.most_bytes:
                return TooLarge(index)
            return read_one(self.samples, index)
        except DeeplabxError as error:
            return error


def bytes_of(samples: ReadableSet, index: int) -> int:
    """Of an image with its label, as its header says; 0 where the set reads no files, or has a reader of its
    own.
    """
    files = samples.samples
    if not isinstance(files, LabelledFiles) or files.has_own_reader:
        return 0
    try:
        width, height = header_of(files.pairs[index][0], mask=False, channels=files.image_channels).size
    except DeeplabxError:
        return 0  # reading it raises the same error, or skips it
    return width * height * (samples.channels + samples.label_dtype.itemsize)


def to_send(found: Read | TooLarge | DeeplabxError, *, shared_memory: bool) -> Sent | DeeplabxError:
    """What goes to the main process: arrays are pickled into the pipe, tensors are put into shared memory."""
    if not isinstance(found, Read) or found.sample is None or not shared_memory:
        return found
    try:
        image, label = (
            torch.from_numpy(np.require(array, requirements=["C", "W"])).share_memory_()
            for array in (found.sample.image, widened(found.sample.label))
        )
        return SharedSample(image, label), found.unreadable
    except (MemoryError, RuntimeError) as error:
        full = resource_error(error)
        if full is None:
            raise
        return full
