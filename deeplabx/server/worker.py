"""The one thread that decodes, predicts and encodes."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from deeplabx.process.memory import resident_memory, return_freed_memory

Call = Callable[[], Any]
# Bytes of freed memory that malloc may keep. With images of many sizes it kept 1.2 GB after 48 of them, and
# more after each; returned after every image, the next one takes a quarter longer.
KEPT = 512 << 20


class Worker(threading.Thread):
    """Calls what it is given, one after the other. A model promises nothing for several threads, and one
    image at a time bounds the memory.

    It is a daemon: a prediction cannot be interrupted, and does not keep the program from ending.
    """

    def __init__(self) -> None:
        super().__init__(name="prediction", daemon=True)
        self.calls: queue.SimpleQueue[tuple[Future, Call]] = queue.SimpleQueue()

    def submit(self, call: Call) -> Future:
        """The result of the call, in the future. One that is cancelled before its turn is not called."""
        future: Future = Future()
        self.calls.put((future, call))
        return future

    def run(self) -> None:
        level = resident_memory()
        while True:
            future, call = self.calls.get()
            if future.set_running_or_notify_cancel():
                finish(future, call)
            del future, call  # so that no image is kept while the thread waits
            level = trimmed(level)


def finish(future: Future, call: Call) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 (the one who waits raises it)
        future.set_exception(error)


def trimmed(level: int | None) -> int | None:
    """The memory of this process; freed memory is returned to the system once KEPT bytes more than `level`
    are in use.
    """
    now = resident_memory()
    if level is None or now is None or now - level < KEPT:
        return level
    return_freed_memory()
    return resident_memory()
