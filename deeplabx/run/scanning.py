"""A pass over the samples of some splits, with a progress bar on a terminal."""

import sys
from collections.abc import Sequence

from tqdm import tqdm

from deeplabx.config import schema
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.scan import scan
from deeplabx.dataset.readable import ReadableSet
from deeplabx.process.distributed import share_of_cores
from deeplabx.process.memory import memory_words
from deeplabx.process.signals import ignore_signals

MOST_WORKERS = 16  # of auto


def split_names(dataset: schema.DatasetSettings, chosen: Sequence[str] | None) -> list[str]:
    """The splits to read, each once: those that were chosen, else the two of a training."""
    return list(dict.fromkeys(chosen or [dataset.train_split, dataset.split]))


def scanned(splits: Sequence[ReadableSet], *, workers: int | str, words: str) -> list[Facts]:
    """The facts of every sample. workers: `auto` for one process for each core. words: before the bar.

    Raises ResourceError when a worker is lost.
    """
    auto = min(MOST_WORKERS, max(1, int(share_of_cores())))
    with tqdm(
        total=sum(map(len, splits)), desc=words, unit="image", leave=False, disable=not sys.stderr.isatty()
    ) as bar:

        def advance(read: int, total: int) -> None:
            bar.update(read - bar.n)

        return scan(
            splits,
            workers=auto if workers == "auto" else int(workers),
            progress=advance,
            worker_init=ignore_signals,
            memory=memory_words,
        )
