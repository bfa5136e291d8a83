"""Whether the batches in flight fit into memory, and how the loader's workers send them."""

import math
import os
from dataclasses import dataclass, field

from deeplabx.config import schema
from deeplabx.dataset.loader import batches_at_once
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import ResourceError, byte_words
from deeplabx.process.distributed import world_size
from deeplabx.process.memory import Free, free_addresses, free_memory, free_shared_memory

SEMAPHORES = 1 << 18  # bytes of /dev/shm for those of the loader's queues, a page each
DECODING = 3  # bytes per byte of an image: what Pillow decodes, the array, and what the augmentation scales


@dataclass(frozen=True)
class Needs:
    """Bytes that loading takes. batch: one process's part of a batch. image: one image with its label.
    processes: those of the run on this machine.
    """

    batch: int
    image: int
    processes: int

    def in_flight(self, workers: int) -> int:
        """Of the batches that exist at once."""
        return self.processes * batches_at_once(workers) * self.batch

    def in_all(self, workers: int) -> int:
        """The same, with what each worker holds while it makes a batch."""
        making = self.processes * max(1, workers) * (self.batch + DECODING * self.image)
        return self.in_flight(workers) + making


@dataclass(frozen=True)
class Transport:
    """How batches come from the workers: in shared memory or through pipes. words: for the log."""

    shared_memory: bool = True
    words: list[str] = field(default_factory=list)


def needs_of(config: schema.TrainConfig, training: ReadableSet) -> Needs:
    crop, share = config.augment.crop_size, math.ceil(config.trainer.batch_size / world_size())
    label = 1 if training.ignore_index < 256 else 4  # bytes of one pixel of a label
    first = training.read_label(0)
    pixels = 0 if first is None else first.size
    training.take_errors()
    return Needs(
        batch=share * crop**2 * (training.channels + label),
        image=pixels * (training.channels + label),
        processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world_size() > 1 else 1,
    )


def transport_of(config: schema.TrainConfig, training: ReadableSet) -> Transport:
    """How this run's batches are sent. Raises ResourceError if they need more memory than is free."""
    needs, workers = needs_of(config, training), config.trainer.workers
    refuse_too_large(needs, workers, free_memory(), size=config.augment.crop_size)
    if (addresses := free_addresses()) is not None:  # of each process
        refuse_too_large(Needs(needs.batch, needs.image, 1), min(workers, 1), addresses, size=None)
    return transport(needs, workers, free_shared_memory())


def refuse_too_large(needs: Needs, workers: int, free: Free | None, *, size: int | None) -> None:
    needed = needs.in_all(workers)
    if free is None or needed <= free.free:
        return
    fewer = next((count for count in range(workers - 1, -1, -1) if needs.in_all(count) <= free.free), None)
    smaller = "a smaller augment.crop_size or trainer.batch_size"
    hint = f"set {smaller}" if fewer is None else f"set trainer.workers={fewer}, or {smaller}"
    of = f" of {size} x {size} pixels" if size is not None else ""
    raise ResourceError(
        f"the batches{of} that {needs.processes * workers} loader workers read ahead need "
        f"{byte_words(needed)} of memory, but {free.words}",
        hint=hint,
    )


def transport(needs: Needs, workers: int, shared: Free | None) -> Transport:
    if shared is None or workers == 0:
        return Transport()
    needed = needs.in_flight(workers) + SEMAPHORES
    if needed <= shared.free:
        return Transport()
    fewer = next((n for n in range(workers - 1, 0, -1) if needs.in_flight(n) + SEMAPHORES <= shared.free), 0)
    size = math.ceil((needed + shared.total - shared.free) / 2**20)
    less = f", or trainer.workers={fewer}," if fewer else ""
    return Transport(
        False,
        [
            f"/dev/shm: {byte_words(shared.free)} free of {byte_words(shared.total)}, the batches in flight "
            f"need {byte_words(needed)}: workers send them through pipes instead, which is slower; "
            f"docker run --shm-size={size}m{less} avoids it"
        ],
    )
