"""Class weights of a run: as given, or counted from its training labels."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from deeplabx import registry
from deeplabx.config import loss_parts, schema
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
    """`config` with class_weights where class_balance asks for them, in the loss or in the parts of a
    composite one, and a line for the log.

    stored: what the run's checkpoint says, read by the main process. A resumed run takes its weights from
    there, so that labels are counted once. workers: that count them, for each process. Raises ConfigError
    unless there is one weight per class.
    """
    losses, classes = losses_of(config.loss), training.classes
    absent: list[str] = []
    if any(needs_count(loss) for loss in losses):
        of_run = (
            [getattr(one, "class_weights", None) for one in losses_of(stored.config.loss)] if stored else []
        )
        resumed, kept = broadcast((stored is not None, of_run))
        counts = None if resumed else pixels_counted(training, workers=workers)
        if counts is not None:
            absent = [name for name, pixels in zip(classes, counts[0].tolist(), strict=True) if not pixels]
        for index, loss in enumerate(losses):
            if needs_count(loss):
                weights: list[float] | None = None
                if counts is not None:
                    weights = balanced_weights(loss.class_balance, counts)
                elif index < len(kept):  # else other parts were given, and the run is refused later
                    weights = kept[index]
                losses[index] = replace(loss, class_weights=weights)
    words = [f"not in the training labels, and of weight 1: {listed(absent)}"] if absent else []
    remaining = iter(losses)
    changed = loss_parts.changed(config.loss, lambda _: next(remaining), settings_of=registry.settings_of)
    config = replace(config, loss=changed)
    refuse_other_weights(config, training)
    return config, words


def refuse_other_weights(config: schema.TrainConfig, training: ReadableSet) -> None:
    """Raise ConfigError where a loss has class weights, but not one for each class."""
    classes = training.classes
    for index, loss in enumerate(losses_of(config.loss)):
        given = getattr(loss, "class_weights", None)
        if given is not None and len(given) != len(classes):
            raise ConfigError(
                f"{loss_parts.key_of(config.loss, index)}.class_weights has {len(given)} values, but "
                f"{config.dataset.name} has {len(classes)} classes",
                hint=f"give one for each class, in this order: {listed(classes)}",
            )


def losses_of(loss: schema.LossSettings) -> list[Any]:
    """The settings of the parts of a composite loss; of any other, itself."""
    parts = loss_parts.parts_of(loss, settings_of=registry.settings_of)
    return [one.settings for one in parts] if parts else [loss]


def needs_count(loss: Any) -> bool:
    """Whether its class weights are to be counted."""
    if not isinstance(loss, schema.ClassWeightedLossSettings):
        return False
    return loss.class_balance is not None and loss.class_weights is None


def pixels_counted(training: ReadableSet, *, workers: int) -> Tensor:
    """`count_pixels` of the training labels; each process counts its share."""
    indices = own_share(range(len(training)))
    counts = count_pixels(training, indices, workers=workers, worker_init=ignore_signals, memory=memory_words)
    return sum_in_place(counts)
