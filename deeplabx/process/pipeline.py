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
MOST_BYTES = 512 << 20  # of what was made ahead and is not used yet


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
    so far.
    """
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    largest = 0
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while len(waiting) < depth and (not waiting or (len(waiting) + 1) * largest <= most):
                    try:
                        item = next(remaining)
                    except StopIteration:
                        break
                    waiting.append((item, pool.submit(make, item)))
                if not waiting:
                    return
                item, future = waiting.popleft()
                if future.exception() is None:
                    largest = max(largest, size(future.result()))
                yield item, future
        finally:
            for _, future in waiting:
                future.cancel()


class Behind:
    """`with Behind(threads=2, depth=8) as behind: behind(write, path, ...)`: calls in threads, of which at
    most `depth` are not finished. The first error of one is raised by a later call, or at the end.
    """

    def __init__(self, *, threads: int, depth: int) -> None:
        self.pool, self.depth = ThreadPoolExecutor(threads), depth
        self.waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> Self:
        return self

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> None:
        while self.waiting and (len(self.waiting) >= self.depth or self.waiting[0].done()):
            self.waiting.popleft().result()
        self.waiting.append(self.pool.submit(call, *arguments))

    def finish(self) -> None:
        """Wait until every call has returned."""
        while self.waiting:
            self.waiting.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            # What waits is not begun after an error; what runs is finished, so that no file is left half.
            self.pool.shutdown(wait=True, cancel_futures=True)
