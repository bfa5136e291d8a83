"""The run doctor of a training."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from deeplabx.config import schema
from deeplabx.config.torch_optimizers import USUAL_LR
from deeplabx.engine.doctor import Alarm, RunDoctor, alarms_of
from deeplabx.engine.state import TrainState
from deeplabx.model.norm import FrozenBatchNorm2d

ADAMW_LR = 1e-3  # its own default


def doctor_of(state: TrainState, folder: Path, *, classes: Sequence[str]) -> RunDoctor:
    """The doctor of a run that begins or continues: it does not repeat what was said before."""
    return RunDoctor(
        classes,
        max_iters=state.max_iters,
        ignore_index=state.ignore_index,
        first_step=state.step,
        known=[alarm.kind for alarm in alarms_of(folder)],
    )


def alarms_at_start(
    doctor: RunDoctor, config: schema.TrainConfig, model: nn.Module, *, norm_images: int, lr_was_found: bool
) -> list[Alarm]:
    """Of the settings: learning rate, unless trainer.find_lr has found it, and batch norm."""
    trainer, recommended, lr = config.trainer, config.dataset.recommended, config.optimizer.lr
    usual = {
        "sgd": (recommended.lr, f"dataset={config.dataset.name}", recommended.batch_size),
        "adamw": (ADAMW_LR, "AdamW", trainer.batch_size),
    }
    algorithm = getattr(config.optimizer, "algorithm", "")
    if algorithm in USUAL_LR:
        usual["torch"] = (USUAL_LR[algorithm], algorithm, trainer.batch_size)
    found = doctor.norm(norm_images, trained_norms=trained_norms(model))
    if config.optimizer.name in usual and not lr_was_found:  # of a plug-in's optimizer none is known
        found += doctor.learning_rate(lr, *usual[config.optimizer.name], batch_size=trainer.batch_size)
    return found


def as_labelled(config: schema.TrainConfig) -> bool:
    """Whether batches show the classes as often as the training labels do."""
    return config.augment.mix is None and config.augment.class_sampling == 0


def trained_norms(model: nn.Module) -> int:
    """Batch norms whose statistics are those of the batch."""
    kinds = nn.BatchNorm2d | nn.SyncBatchNorm
    return sum(isinstance(one, kinds) and not isinstance(one, FrozenBatchNorm2d) for one in model.modules())
