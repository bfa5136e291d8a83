"""What is wrong with a data set as a whole: raised at the first problem, or collected by a check that looks
for all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from deeplabx.errors import DataError

COLLECTED: ContextVar[list[DataError] | None] = ContextVar("collected", default=None)


def report(error: DataError) -> None:
    """Raise the error; where problems are collected, keep it. A caller then continues with the rest of the
    files, such as those pairs whose two files exist.
    """
    collected = COLLECTED.get()
    if collected is None:
        raise error
    collected.append(error)


@contextmanager
def collecting() -> Iterator[list[DataError]]:
    """Collect the problems of a data set that is opened inside, in this thread."""
    found: list[DataError] = []
    token = COLLECTED.set(found)
    try:
        yield found
    finally:
        COLLECTED.reset(token)
