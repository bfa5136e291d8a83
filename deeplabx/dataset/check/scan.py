"""One pass over the samples of some splits, in worker processes."""

from collections.abc import Callable, Sequence

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.readable import ReadableSet


def scan(
    splits: Sequence[ReadableSet],
    *,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    worker_init: Callable[[int], None] | None = None,
    memory: Callable[[], str] | None = None,
) -> list[Facts]:
    """The facts of every sample, in order. progress: called with the samples read and those there are.
    worker_init, memory: as in `training_batches`.
    """
    raise NotImplementedError
