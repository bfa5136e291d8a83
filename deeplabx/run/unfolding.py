"""trainer.unfold_norm: statistics for the folded batch norms of the weights that a run begins with."""

from collections.abc import Generator
from contextlib import closing

import torch
from torch import Tensor

from deeplabx.config import schema
from deeplabx.dataset.loader import training_batches
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.kernels import computing, repeating
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.norm import folded_norms
from deeplabx.model.unfold import unfold_norm
from deeplabx.run.build import augment_of


def unfold(
    config: schema.TrainConfig, model: DeepLab, training: ReadableSet, *, device: torch.device
) -> list[str]:
    """Measure the statistics of the folded batch norms on the first crops of the run, where
    trainer.unfold_norm asks for it; lines for the log. Moves the model to `device`.

    Call it once, before step 0, in the main process, whose weights the others get later. Raises
    ConfigError where no batch norm is folded.
    """
    crops = config.trainer.unfold_norm
    if crops is None:
        return []
    found = folded_norms(model)
    if not found:
        given = "init_from" if config.init_from is not None else "backbone.weights"
        value = config.init_from if config.init_from is not None else config.backbone.weights
        raise ConfigError(
            f"trainer.unfold_norm={crops}, but no batch norm of {given}={value} is folded",
            hint="set trainer.unfold_norm=null: these weights have statistics",
        )
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    unreadable: list[str] = []
    with computing(device), repeating(device):
        images = first_crops(config, model, training, crops, device=device, unreadable=unreadable)
        with closing(images):
            names = unfold_norm(model, images)
    lines = [f"  statistics of {len(names)} folded batch norms measured on {crops} crops"]
    if left := len(found) - len(names):
        lines.append(f"  {left} other folded batch norms are not used in evaluation and stay folded")
    return [*lines, *(f"  replaced by the next image: {words}" for words in unreadable)]


def first_crops(
    config: schema.TrainConfig,
    model: DeepLab,
    training: ReadableSet,
    count: int,
    *,
    device: torch.device,
    unreadable: list[str],
) -> Generator[Tensor]:
    """The first `count` normalised crops of the run's shuffled epochs, one at a time, so that they depend on
    neither trainer.batch_size nor the number of processes; without augment.mix and augment.class_sampling.
    Errors of images that are skipped go into `unreadable`.
    """
    normalization = model.backbone.normalization
    batches = training_batches(
        training,
        augment_of(config.augment, pad_pixel=normalization.pad_pixel, ignore_index=training.ignore_index),
        batch_size=1,
        seed=config.seed,
        first_step=0,
        last_step=count,
        workers=0,
        pin_memory=False,
    )
    with closing(batches):
        for batch in batches:
            if batch is not None:
                unreadable += batch.unreadable
                yield normalization(batch.images.to(device))
