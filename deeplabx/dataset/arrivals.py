"""Items that a thread reads, so that the main thread hears signals while it waits for them: a read from a
disk that does not answer cannot be interrupted.
"""

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from deeplabx.errors import DataError

T = TypeVar("T", covariant=True)
POLL = 1.0  # seconds
QUIET = 60.0  # seconds without an item, after which callers say so once
PATIENCE = 600.0  # seconds without an item, after which the disk is considered dead


@dataclass(frozen=True)
class Arrived(Generic[T]):
    """An item, or what went wrong. Neither: there are no more items."""

    item: T | None = None
    error: BaseException | None = None


class Items(Protocol[T]):
    """A generator, or what has these two methods of one."""

    def __next__(self) -> T: ...

    def close(self) -> None: ...


def arrivals(
    items: Items[T],
    *,
    ahead: int,
    what: str,
    check: Callable[[], None] | None = None,
) -> Generator[T | None, None, None]:
    """The items in their order, none of them None; and None each time that the next one has not arrived
    within another second.

    ahead: items read before they are asked for; 0 to read only while the caller waits. what: an item in
    words. check: called before each item and after each None; it may raise. Raises what reading an item
    raised, and DataError when none arrives for PATIENCE seconds. `items` is used, and closed, by one daemon
    thread.
    """
    arrived: queue.SimpleQueue[Arrived[T]] = queue.SimpleQueue()
    permits, over = threading.Semaphore(ahead), threading.Event()

    def read() -> None:
        with contextlib.closing(items):
            try:
                while permits.acquire() and not over.is_set():
                    arrived.put(Arrived(next(items)))
            except StopIteration:
                arrived.put(Arrived())
            except BaseException as error:  # noqa: BLE001 - raised where the item is waited for
                arrived.put(Arrived(error=error))

    threading.Thread(target=read, name=f"reading each {what}", daemon=True).start()
    try:
        while True:
            if check is not None:
                check()
            permits.release()
            for _ in range(math.ceil(PATIENCE / POLL)):  # counted: a suspended job has not waited
                try:
                    found = arrived.get(timeout=POLL)
                    break
                except queue.Empty:
                    yield None  # first: a signal that ended the workers too is not their error
                    if check is not None:
                        check()
            else:
                raise DataError(
                    f"no {what} was read in {PATIENCE:.0f} s: reading did not fail, but did not end either",
                    hint="does the disk of dataset.root answer? A network drive may be gone",
                )
            if found.error is not None:
                raise found.error
            if found.item is None:
                return
            yield found.item
    finally:
        over.set()
        permits.release()
