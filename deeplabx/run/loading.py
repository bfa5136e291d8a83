"""How many worker processes read batches and images, whether what they hold fits into memory, and how they
send it.
"""

import math
import os
from dataclasses import dataclass, field, replace

import torch

from deeplabx.config import schema
from deeplabx.dataset.loader import batches_at_once
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import MOST_BYTES, SampleReader, images_at_once
from deeplabx.errors import ResourceError, byte_words
from deeplabx.process.distributed import own_share, share_of_cores, world_size
from deeplabx.process.memory import Free, free_addresses, free_memory, free_shared_memory, memory_words
from deeplabx.process.signals import ignore_signals

MOST_WORKERS = 16  # of auto, for each device
BESIDE_CPU = 2  # workers of auto where training itself uses the cores
PART = 2  # auto takes at most 1 / PART of the free memory
TO_EVALUATE = 8  # workers of an evaluation, at most
WORTH_WORKERS = 20e6  # pixels of a split that take longer to read than workers take to start
SEMAPHORES = 1 << 18  # bytes of /dev/shm for those of the loader's queues, a page each
DECODING = 3  # bytes per byte of an image: what Pillow decodes, the array, and what the augmentation scales


@dataclass(frozen=True)
class Needs:
    """Bytes that loading takes. batch: one process's part of a batch. image: one image with its label.
    processes: those of the run on this machine. mixed: of the copy that augment.mix makes of a batch.
    """

    batch: int
    image: int
    processes: int
    mixed: int = 0

    def in_flight(self, workers: int) -> int:
        """Of the batches that exist at once."""
        return self.processes * batches_at_once(workers) * self.batch

    def in_all(self, workers: int) -> int:
        """The same, with what each worker holds while it makes a batch."""
        making = self.processes * max(1, workers) * (self.batch + self.mixed + DECODING * self.image)
        return self.in_flight(workers) + making


@dataclass(frozen=True)
class Loading:
    """How many workers read for one device, and whether batches come from them in shared memory or through
    pipes. cores: for this process. words: for the log.
    """

    workers: int
    cores: float
    shared_memory: bool = True
    words: list[str] = field(default_factory=list)


def needs_of(config: schema.TrainConfig, training: ReadableSet) -> Needs:
    crop, share = config.augment.crop_size, math.ceil(config.trainer.batch_size / world_size())
    label = 1 if training.ignore_index < 256 else 4  # bytes of one pixel of a label
    first = training.read_label(0)
    pixels = 0 if first is None else first.size
    training.take_errors()
    batch = share * crop**2 * (training.channels + label)
    return Needs(
        batch=batch,
        image=pixels * (training.channels + label),
        processes=processes_here(),
        mixed=0 if config.augment.mix is None else batch,
    )


def processes_here() -> int:
    """Those of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world_size() > 1 else 1


def loading_of(config: schema.TrainConfig, training: ReadableSet, *, device: torch.device) -> Loading:
    """How this run's batches are read and sent. Raises ResourceError if they need more memory than is
    free. All processes must call it.
    """
    needs, cores = needs_of(config, training), share_of_cores()
    memory, shared = free_memory(), free_shared_memory()
    if config.trainer.workers == "auto":
        workers, why = what_fits(needs, *automatic(cores, device), memory=memory, shared=shared)
        words = [f"trainer.workers=auto: {workers}{' for each device' if world_size() > 1 else ''}; {why}"]
    else:
        workers, words = int(config.trainer.workers), []
    refuse_too_large(needs, workers, memory, size=config.augment.crop_size)
    if (addresses := free_addresses()) is not None:  # of each process
        refuse_too_large(replace(needs, processes=1), min(workers, 1), addresses, size=None)
    fits, warning = transport(needs, workers, shared)
    return Loading(workers, cores, fits, [*words, *warning])


def automatic(cores: float, device: torch.device) -> tuple[int, str]:
    """The workers of trainer.workers=auto, as far as cores decide, and why."""
    if device.type == "cpu":
        return min(BESIDE_CPU, math.ceil(cores)), "training uses the cores too"
    found = max(1, min(MOST_WORKERS, int(cores) - 1))
    why = f"auto uses at most {MOST_WORKERS}" if found == MOST_WORKERS else "one is left for training"
    return found, f"{cores:.3g} cores, {why}"


def what_fits(
    needs: Needs, workers: int, why: str, *, memory: Free | None, shared: Free | None
) -> tuple[int, str]:
    """The workers, or fewer where these would take more than a part of the free memory, and why. Fewer too
    where at least half of them can send through shared memory: that is faster than all through pipes.
    """
    fewer = range(workers, -1, -1)
    if memory is not None:
        found = next((count for count in fewer if PART * needs.in_all(count) <= memory.free), 0)
        if found < workers:
            workers, why = found, f"{workers} would take too much memory: {memory.words}"
    if shared is not None:
        in_shared = [count for count in fewer if needs.in_flight(count) + SEMAPHORES <= shared.free]
        found = min(workers, max(in_shared, default=0))
        if workers / 2 <= found < workers:
            workers, why = found, f"{workers} would need more than /dev/shm has: {shared.words}"
    return workers, why


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


def transport(needs: Needs, workers: int, shared: Free | None) -> tuple[bool, list[str]]:
    """Whether the batches in flight fit into shared memory, and a line for the log where they do not."""
    if shared is None or workers == 0:
        return True, []
    needed = needs.in_flight(workers) + SEMAPHORES
    if needed <= shared.free:
        return True, []
    fewer = next((n for n in range(workers - 1, 0, -1) if needs.in_flight(n) + SEMAPHORES <= shared.free), 0)
    size = math.ceil((needed + shared.total - shared.free) / 2**20)
    less = f", or trainer.workers={fewer}," if fewer else ""
    return False, [
        f"/dev/shm: {byte_words(shared.free)} free of {byte_words(shared.total)}, the batches in flight "
        f"need {byte_words(needed)}: workers send them through pipes instead, which is slower; "
        f"docker run --shm-size={size}m{less} avoids it"
    ]


# --- evaluation ---------------------------------------------------------------------------------------------


def reader_of(samples: ReadableSet, *, workers: int, device: torch.device) -> SampleReader:
    """What reads the images of an evaluation.

    workers: of the run. On a CPU the network takes so much longer than reading that a thread keeps up, and
    processes would take its cores; a split of few pixels is read before they have started.
    """
    if device.type == "cpu" or workers == 0:
        return SampleReader(samples)
    images = len(own_share(range(len(samples))))
    first = samples.read_label(0)
    samples.take_errors()
    pixels = 0 if first is None else first.size
    if images * pixels < WORTH_WORKERS:
        return SampleReader(samples)
    workers = min(workers, TO_EVALUATE, images)
    image = pixels * (samples.channels + samples.label_dtype.itemsize)
    held = processes_here() * (images_at_once(workers) + DECODING * workers)
    memory, shared = free_memory(), free_shared_memory()
    most = MOST_BYTES if memory is None else min(MOST_BYTES, memory.free // 4 // held)
    # Half of it: the batches of training may be there too. Images may be twice as large as the first.
    of_shared = most if shared is None else shared.free // 2 // (processes_here() * images_at_once(workers))
    fits = of_shared >= 2 * image
    return SampleReader(
        samples,
        workers=workers,
        worker_init=ignore_signals,
        shared_memory=fits,
        most_bytes=min(most, of_shared) if fits else most,
        memory=memory_words,
    )


def workers_to_evaluate(workers: int | str, device: torch.device) -> int:
    """The number that trainer.workers means where nothing is trained. All processes must call it."""
    return automatic(share_of_cores(), device)[0] if workers == "auto" else int(workers)
