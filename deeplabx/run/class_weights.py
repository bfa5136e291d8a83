"""Class weights of a run: as given, or counted from its training labels."""

from dataclasses import replace

from torch import Tensor

from deeplabx.config import schema
from deeplabx.dataset.class_balance import balanced_weights, count_pixels
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import ConfigError, listed
from deeplabx.process.distributed import broadcast, own_share, sum_in_place
from deeplabx.process.memory import memory_words
from deeplabx.process.signals import ignore_signals
from deeplabx.run.description import Description


def with_class_weights(
    config: schema.TrainConfig, training: ReadableSet, stored: Description | None, *, workers: int
) -> tuple[schema.TrainConfig, list[str]]:
    """`config` with loss.class_weights where loss.class_balance asks for them, and a line for the log.

    stored: what the run's checkpoint says, read by the main process. A resumed run takes its weights from
    there, so that labels are counted once. workers: that count them, for each process. Raises ConfigError
    unless there is one weight per class.
    """
    loss, classes = config.loss, training.classes
    if not isinstance(loss, schema.ClassWeightedLossSettings):
        return config, []
    absent: list[str] = []
    if loss.class_balance is not None and loss.class_weights is None:
        of_run = stored.config.loss if stored else None
        resumed, weights = broadcast((stored is not None, getattr(of_run, "class_weights", None)))
        if not resumed:
            counts = pixels_counted(training, workers=workers)
            weights = balanced_weights(loss.class_balance, counts)
            absent = [name for name, pixels in zip(classes, counts[0].tolist(), strict=True) if not pixels]
        loss = replace(loss, class_weights=weights)
    if loss.class_weights is not None and len(loss.class_weights) != len(classes):
        raise ConfigError(
            f"loss.class_weights has {len(loss.class_weights)} values, but {config.dataset.name} has "
            f"{len(classes)} classes",
            hint=f"give one for each class, in this order: {listed(classes)}",
        )
    words = [f"not in the training labels, and of weight 1: {listed(absent)}"] if absent else []
    return replace(config, loss=loss), words


def pixels_counted(training: ReadableSet, *, workers: int) -> Tensor:
    """`count_pixels` of the training labels; each process counts its share."""
    indices = own_share(range(len(training)))
    counts = count_pixels(training, indices, workers=workers, worker_init=ignore_signals, memory=memory_words)
    return sum_in_place(counts)
