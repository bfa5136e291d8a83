"""The images from which samples are drawn by class."""

import numpy as np

from deeplabx.config import schema
from deeplabx.dataset.class_balance import classes_shown
from deeplabx.dataset.loader import ClassSampling
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError
from deeplabx.process.distributed import gathered, own_share, world_size
from deeplabx.process.memory import memory_words
from deeplabx.process.signals import ignore_signals


def class_sampling_of(
    config: schema.AugmentSettings, training: ReadableSet, *, workers: int
) -> ClassSampling | None:
    """What augment.class_sampling asks for; None for nothing. Each process reads its share of the training
    labels; a resumed run reads them again. All processes must call it.
    """
    if not config.class_sampling:
        return None
    own = own_share(range(len(training)))
    table = classes_shown(training, own, workers=workers, worker_init=ignore_signals, memory=memory_words)
    shows = np.zeros((len(training), len(training.classes)), bool)
    for rank, part in enumerate(gathered([table])):
        shows[rank :: world_size()] = part
    if not shows.any():
        raise DataError(
            f"augment.class_sampling={config.class_sampling}, but the training labels show no class",
            hint="deeplabx data check finds out why",
        )
    return ClassSampling(config.class_sampling, [np.flatnonzero(column) for column in shows.T])
