"""What is decided once, before step 0, from what the device and the data are; the stored config says what
ran.
"""

import math
from dataclasses import replace

import torch

from deeplabx.config import schema
from deeplabx.config.checks import check_schedule, norm_sees_one_value
from deeplabx.errors import ConfigError, DataError
from deeplabx.process.distributed import resolve_precision, world_size


def resolved(config: schema.TrainConfig, *, images: int, device: torch.device) -> schema.TrainConfig:
    """`config` with trainer.precision=auto as what the device computes in, and trainer.epochs as
    schedule.max_iters.

    images: of the training split. Raises DataError when there are none, and ConfigError where the epochs are
    fewer steps than the warm-up.
    """
    if images == 0:
        raise DataError(f"split {config.dataset.train_split} of {config.dataset.name} holds no images")
    precision = resolve_precision(config.trainer.precision, device)
    schedule = config.schedule
    if config.trainer.epochs is not None:
        steps = math.ceil(config.trainer.epochs * images / config.trainer.batch_size)
        schedule = replace(schedule, max_iters=max(1, steps))
        check_schedule(schedule, length_is_known=True)
    trainer = replace(config.trainer, precision=precision, epochs=None)
    return replace(config, trainer=trainer, schedule=schedule)


def images_per_norm(config: schema.TrainConfig, *, synchronized: bool) -> int:
    """How many images a batch norm sees at once.

    synchronized: whether it sees those of all processes. Raises ConfigError where one is too few, because
    image pooling leaves it a single value, and where the processes cannot share the batch evenly:
    config.checks knows only the number that trainer.devices states, not how many torchrun or SLURM started.
    """
    trainer = config.trainer
    passes = world_size() * trainer.accumulate
    if trainer.batch_size % passes:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} cannot be divided by {world_size()} processes x "
            f"trainer.accumulate = {passes}",
            hint=f"take a multiple of {passes}",
        )
    seen = trainer.batch_size // trainer.accumulate // (1 if synchronized else world_size())
    if seen == 1 and norm_sees_one_value(config):
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} leaves one image per pass to each of {world_size()} "
            "processes: batch norm needs two",
            hint=f"set trainer.batch_size={2 * trainer.batch_size}, a smaller trainer.accumulate, "
            "model.norm=group or model.norm=frozen",
        )
    return seen
