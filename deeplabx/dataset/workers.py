"""The processes that read batches, and what may happen to them: killed, out of memory, stuck in a read,
without shared memory. Each becomes an error in words where the batch is waited for.
"""

import contextlib
import functools
import multiprocessing
import multiprocessing.queues
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import cv2
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from deeplabx.dataset.arrivals import Items, arrivals
from deeplabx.errors import (
    LESS_FOR_LOADING,
    MORE_SHARED_MEMORY,
    DataError,
    DeeplabxError,
    ResourceError,
    resource_error,
)

T = TypeVar("T")
U = TypeVar("U")
CAUGHT = "in DataLoader worker process"  # of torch, in an error that was raised in a worker
GRACE = 1.0  # seconds in which a worker may finish what it is doing


def loaded(
    loader: DataLoader[T],
    *,
    what: str,
    memory: Callable[[], str] | None = None,
    pinned: Callable[[T], T] | None = None,
) -> Generator[T | None, None, None]:
    """What the loader's workers return, in its order; None for each second without it (see `arrivals`).

    An error that a worker returned is raised, and ResourceError when a worker is lost or cannot be started.
    memory: says what memory is free. pinned: moves an item into pinned memory. Close the generator when it is
    not read to its end: its workers ignore TERM, and the interpreter would wait for them forever.
    """
    with started(loader, memory=memory) as (iterator, workers):
        yield from received(Reader(iterator, pinned), workers, what=what, memory=memory)


class Pool(Generic[T, U]):
    """Worker processes that read several passes over a loader's sampler, one after another: the first pass
    starts them, and `close` ends them.

    loader: with persistent workers. what, memory: see `loaded`. then: makes of an item that a worker sent
    what `items` returns, in the thread that waits for it.
    """

    def __init__(
        self,
        loader: DataLoader[T],
        *,
        what: str,
        then: Callable[[T], U],
        memory: Callable[[], str] | None = None,
    ) -> None:
        self.loader, self.what, self.then, self.memory = loader, what, then, memory
        self.running = contextlib.ExitStack()
        self.workers: list[BaseProcess] = []

    def items(self) -> Generator[U | None, None, None]:
        """One pass; see `loaded`. The workers end if it is not read to its end, and the next pass starts new
        ones.
        """
        iterator: Iterator[T] | None = None
        if not self.workers:
            context = started(self.loader, memory=self.memory)
            iterator, self.workers = self.running.enter_context(context)
        one = Pass(self.loader, iterator, self.then)
        try:
            yield from received(one, self.workers, what=self.what, memory=self.memory)
        finally:
            if not one.complete:
                self.close()

    def close(self) -> None:
        """End the workers."""
        iterator, self.loader._iterator = self.loader._iterator, None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            ending = threading.Thread(target=iterator._shutdown_workers, daemon=True)
            ending.start()
            ending.join(GRACE / 2)  # it may block, as in Reader.close
        self.workers = []
        self.running.close()


def received(
    items: Items[T], workers: list[BaseProcess], *, what: str, memory: Callable[[], str] | None
) -> Generator[T | None, None, None]:
    """What these workers return, with errors as `loaded` says."""
    check = functools.partial(refuse_lost, workers, memory)
    # Without workers the next item is read when it is asked for, as it would be without a thread.
    with contextlib.closing(arrivals(items, ahead=min(1, len(workers)), what=what, check=check)) as found:
        try:
            for item in found:
                if isinstance(item, DeeplabxError):
                    raise item
                yield item
        except Exception as error:
            if workers and not isinstance(error, DeeplabxError) and CAUGHT not in str(error):
                raise disconnected(error, workers, memory) from None
            raise


class Reader(Generic[T]):
    """What the thread that `arrivals` starts does with a loader's iterator."""

    def __init__(self, iterator: Iterator[T], pinned: Callable[[T], T] | None) -> None:
        self.iterator, self.pinned = iterator, pinned

    def __next__(self) -> T:
        item = next(self.iterator)
        return item if self.pinned is None or isinstance(item, DeeplabxError) else self.pinned(item)

    def close(self) -> None:
        """End the workers. It may block: one that was killed may have held a lock of a queue.

        torch has no public way: its iterator ends them when it is collected, whenever that is.
        """
        if isinstance(self.iterator, _MultiProcessingDataLoaderIter):
            self.iterator._shutdown_workers()


class Pass(Generic[T, U]):
    """What that thread does with a loader whose workers stay.

    iterator: of workers that have just been started; None of those that have finished another pass.
    """

    def __init__(self, loader: DataLoader[T], iterator: Iterator[T] | None, then: Callable[[T], U]) -> None:
        self.loader, self.iterator, self.then = loader, iterator, then
        self.complete = False

    def __next__(self) -> U:
        if self.iterator is None:  # here, and not by the main thread: each worker must answer
            self.iterator = iter(self.loader)
        try:
            item = next(self.iterator)
        except StopIteration:
            self.complete = True
            raise
        if isinstance(item, DeeplabxError):
            raise item
        return self.then(item)

    def close(self) -> None:
        """Workers that a pass leaves unfinished are ended by the pool."""


@contextlib.contextmanager
def started(
    loader: DataLoader[T], *, memory: Callable[[], str] | None
) -> Generator[tuple[Iterator[T], list[BaseProcess]], None, None]:
    """The loader's iterator and its worker processes, which have ended when the block ends.

    torch's handler of SIGCHLD, which it installs here, raises wherever the main thread happens to be, in the
    middle of a save too. It is put aside for the duration: a lost worker is noticed where its batch is waited
    for.
    """
    refuse_no_semaphores(loader.num_workers)
    before = set(multiprocessing.active_children())
    try:
        iterator = iter(loader)
    except (OSError, RuntimeError) as error:  # of fork, or of starting the threads that feed the queues
        raise not_started(loader.num_workers, error, memory) from None
    workers = [child for child in multiprocessing.active_children() if child not in before]
    with without_handler(signal.SIGCHLD):
        try:
            yield iterator, workers
        finally:
            end(workers)


@contextlib.contextmanager
def without_handler(number: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only it can set handlers
        yield
        return
    handler = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, handler)


def end(workers: list[BaseProcess]) -> None:
    """End all workers; KILL ends those that are stuck in a read, as workers ignore TERM."""
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(GRACE)


# --- errors -------------------------------------------------------------------------------------------------


def refuse_no_semaphores(workers: int) -> None:
    """Raise ResourceError unless the semaphores of the loader's queues can be created. Each takes a page of
    /dev/shm; where they fail within torch's loader, it also prints tracebacks.
    """
    try:
        made = [multiprocessing.Lock() for _ in range(3 * workers + 9 if workers else 0)]
    except OSError as error:
        raise ResourceError(
            f"{workers} loader workers cannot be started: no semaphore can be created in /dev/shm: "
            f"{error.strerror}",
            hint=MORE_SHARED_MEMORY,
        ) from None
    del made


def not_started(
    workers: int, error: Exception, memory: Callable[[], str] | None
) -> ResourceError | Exception:
    """The error of a worker that could not be started; `error` itself where that is not the reason."""
    known = isinstance(error, OSError) or "start new thread" in str(error)
    if not known:
        return error
    reason = error.strerror if isinstance(error, OSError) else str(error)
    free = f"; {memory()}" if memory is not None else ""
    return ResourceError(
        f"{workers} loader workers cannot be started: {reason}{free}",
        hint="set fewer trainer.workers, or raise the limit of processes (ulimit -u, --pids-limit)",
    )


def disconnected(
    error: Exception, workers: list[BaseProcess], memory: Callable[[], str] | None
) -> ResourceError:
    """The error of a worker whose batch could not be received, usually because it has just died."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        try:
            refuse_lost(workers, memory)
        except ResourceError as lost_one:
            return lost_one
        time.sleep(0.05)
    words = " ".join(str(error).split())[:200]
    return resource_error(error) or ResourceError(
        f"a loader worker exited or lost its connection: {type(error).__name__}: {words}",
        hint="trainer.workers=0 shows the error where it happens",
    )


def refuse_lost(workers: list[BaseProcess], memory: Callable[[], str] | None) -> None:
    """Raise ResourceError if a worker has ended by itself."""
    for number, worker in enumerate(workers):
        if worker.exitcode:  # one that was told to end has 0
            raise lost(f"loader worker {number + 1} of {len(workers)}", worker.exitcode, memory)


def lost(name: str, code: int, memory: Callable[[], str] | None) -> ResourceError:
    free = f"; {memory()}" if memory is not None else ""
    if code == -signal.SIGKILL:
        return ResourceError(
            f"{name} was killed (SIGKILL), as when memory runs out{free}", hint=LESS_FOR_LOADING
        )
    if code == -signal.SIGBUS:
        return ResourceError(
            f"{name} crashed (SIGBUS), as when /dev/shm is full{free}",
            hint=MORE_SHARED_MEMORY,
        )
    how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"exited with code {code}"
    return ResourceError(f"{name} {how}{free}", hint="trainer.workers=0 shows the error where it happens")


# --- in a worker --------------------------------------------------------------------------------------------


def prepare_worker(worker: int, *, then: Callable[[int], None] | None) -> None:
    cv2.setNumThreads(0)
    # The queue's thread would drop what it cannot send, after printing a traceback, and the main process
    # would wait for it forever. The method is there for subclasses, but torch makes the queue.
    multiprocessing.queues.Queue._on_queue_feeder_error = send_error_instead  # type: ignore[attr-defined]
    if then is not None:
        then(worker)


def send_error_instead(self: Any, error: Exception, item: tuple[int, object]) -> None:
    number, _ = item
    self.put((number, not_sent(error)))


def not_sent(error: Exception) -> DeeplabxError:
    """The error of a batch that a worker could not send."""
    words = " ".join(str(error).split())[:200]
    return resource_error(error) or DataError(
        f"a loader worker could not send a batch: {type(error).__name__}: {words}",
        hint="trainer.workers=0 sends none",
    )
