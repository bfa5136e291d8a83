"""Drawing beside the training loop."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

# Held while a function runs, and while a process is forked: a lock that a function holds, such as that of a
# module which it imports, would stay locked in the new process.
AT_WORK = threading.RLock()
os.register_at_fork(before=AT_WORK.acquire, after_in_parent=AT_WORK.release, after_in_child=AT_WORK.release)


class Background:
    """A thread that runs one function after the other, in their order, as a context manager.

    An error of one is raised by the next `run`, or by `wait`. At the end of the block, the functions are
    waited for; if an error ends the block, only the one at work is, and the others are dropped.
    """

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drawing")
        self.pending: list[Future[object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.executor.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self.wait()

    def run(self, function: Callable[..., object], *arguments: Any) -> None:
        self.raise_errors(finished_only=True)
        self.pending.append(self.executor.submit(self.work, function, *arguments))

    def work(self, function: Callable[..., object], *arguments: Any) -> None:
        with AT_WORK:
            function(*arguments)

    def wait(self) -> None:
        self.raise_errors(finished_only=False)

    def raise_errors(self, *, finished_only: bool) -> None:
        while self.pending and (self.pending[0].done() or not finished_only):
            self.pending.pop(0).result()
