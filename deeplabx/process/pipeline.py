"""Work beside the main thread: what is needed next is made ahead, what is done is written behind. Both are
bounded, and an error of a thread is raised where its result is used.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
MOST_BYTES = 512 << 20  # of what was made ahead and is not used yet, and of what waits behind


def ahead(
    make: Callable[[Item], Made],
    items: Iterable[Item],
    *,
    threads: int,
    depth: int,
    size: Callable[[Made], int] = lambda made: 0,
    most: int = MOST_BYTES,
) -> Iterator[tuple[Item, Future[Made]]]:
    """Each item with the future of `make(item)`, in order; with one thread, they are also made in order.

    At most `depth` are made ahead, and no more than `most` bytes hold, if each has the `size` of the largest
    so far; until the first size is known, one for each thread is made.
    """
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    largest, allowed = 0, threads
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while len(waiting) < min(depth, allowed):
                    if waiting and (len(waiting) + 1) * largest > most:
                        break
                    try:
                        item = next(remaining)
                    except StopIteration:
                        break
                    waiting.append((item, pool.submit(make, item)))
                if not waiting:
                    return
                item, future = waiting.popleft()
                allowed = depth
                if future.exception() is None:
                    largest = max(largest, size(future.result()))
                yield item, future
        finally:
            for _, future in waiting:
                future.cancel()


class Behind:
    """`with Behind(threads=2, depth=8) as behind: behind(write, path, ...)`: calls in threads, of which at
    most `depth` are not finished, and no more than `most` bytes are held by those, one call apart. The first
    error of one is raised by a later call, or at the end.
    """

    def __init__(self, *, threads: int, depth: int, most: int = MOST_BYTES) -> None:
        self.pool, self.depth, self.most = ThreadPoolExecutor(threads), depth, most
        self.waiting: deque[tuple[Future[Any], int]] = deque()  # with the bytes that each holds
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, call: Callable[..., Any], *arguments: Any, size: int = 0) -> None:
        """size: bytes that the arguments hold."""
        while self.waiting and (
            len(self.waiting) >= self.depth or self.held + size > self.most or self.waiting[0][0].done()
        ):
            self.wait_for_first()
        self.waiting.append((self.pool.submit(call, *arguments), size))
        self.held += size

    def wait_for_first(self) -> None:
        future, size = self.waiting.popleft()
        self.held -= size
        future.result()

    def finish(self) -> None:
        """Wait until every call has returned."""
        while self.waiting:
            self.wait_for_first()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            # What waits is not begun after an error; what runs is finished, so that no file is left half.
            self.pool.shutdown(wait=True, cancel_futures=True)
