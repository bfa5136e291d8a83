"""The batch that a learning rate is meant for, and the one that a run has."""

import math
from dataclasses import replace

from torch import nn

from deeplabx.config import schema
from deeplabx.run.watching import trained_norms


def with_scaled_lr(config: schema.TrainConfig) -> tuple[schema.TrainConfig, list[str]]:
    """`config` with the learning rate that trainer.scale_lr asks for, as it is then stored: it is not scaled
    again when the run is resumed. And a line for the log, where the batch is not the one that optimizer.lr is
    meant for.
    """
    trainer, lr = config.trainer, config.optimizer.lr
    meant, batch = trainer.lr_batch_size or config.dataset.recommended.batch_size, trainer.batch_size
    if trainer.find_lr:  # for this batch
        meant = batch
    share = batch / meant
    if trainer.scale_lr is None or meant == batch:
        config = replace(config, trainer=replace(trainer, lr_batch_size=meant, scale_lr=None))
        if meant == batch:
            return config, []
        return config, [
            f"batch {batch}, but optimizer.lr={lr:g} is meant for {meant} images; trainer.scale_lr=linear "
            f"would make it {lr * share:.3g}, trainer.scale_lr=sqrt {lr * math.sqrt(share):.3g}"
        ]
    scaled = lr * (share if trainer.scale_lr == "linear" else math.sqrt(share))
    stored = replace(trainer, lr_batch_size=batch, scale_lr=None)
    kind = {"linear": "linearly", "sqrt": "by the square root"}[trainer.scale_lr]
    return replace(config, trainer=stored, optimizer=replace(config.optimizer, lr=scaled)), [
        f"optimizer.lr={lr:g} is meant for {meant} images and scaled {kind} to {batch}: {scaled:.6g}"
    ]


def norm_words(config: schema.TrainConfig, model: nn.Module, *, norm_images: int) -> list[str]:
    """A line for the log where batch norm sees fewer images at a time than the step has, and than those that
    the learning rate is meant for. norm_images: that it sees.
    """
    trainer = config.trainer
    meant = trainer.lr_batch_size or config.dataset.recommended.batch_size
    if norm_images >= min(trainer.batch_size, meant) or not trained_norms(model):
        return []
    return [
        f"batch norm sees {norm_images} images at a time (trainer.devices, trainer.accumulate), not {meant}: "
        "its statistics are noisier than those that the learning rate was chosen with"
    ]
