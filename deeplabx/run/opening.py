"""What the log says before the first step."""

import math
import shlex
from pathlib import Path

import torch

from deeplabx.config import schema
from deeplabx.config.loss_parts import key_of
from deeplabx.dataset.check.quick import quick_check
from deeplabx.dataset.check.shared_images import shared_images
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.averages import SWA
from deeplabx.engine.stage_folders import stage_words
from deeplabx.engine.state import TrainState
from deeplabx.errors import listed
from deeplabx.model.norm import norm_summary
from deeplabx.optimizer.groups import NO_DECAY
from deeplabx.process.distributed import is_main, world_size
from deeplabx.process.launch import restarts
from deeplabx.run.class_weights import losses_of


def opening_words(
    config: schema.TrainConfig,
    state: TrainState,
    training: ReadableSet,
    validation: ReadableSet,
    folder: Path,
    *,
    norm_images: int,
) -> list[str]:
    """Model, data, length, and the settings worth a line. norm_images: how many a batch norm sees at
    a time.
    """
    trainer, crop, stride = config.trainer, config.augment.crop_size, config.backbone.output_stride
    sizes = [(value.numel() / 1e6, value.requires_grad) for value in state.model.parameters()]
    gpus = torch.cuda.device_count()
    where = str(state.device.type) if world_size() == 1 else f"{world_size()} x {state.device.type}"
    lines = [
        *(stage_words(folder) if is_main() else ()),
        f"{config.model.name} on {config.backbone.name}, output stride {stride}, "
        f"{sum(size for size, _ in sizes):.2f} M parameters, {trainer.precision} on {where}",
        f"{config.dataset.name}: {len(training)} training images, {len(validation)} of "
        f"{config.dataset.split}, {len(training.classes)} classes; batch {trainer.batch_size} of {crop} x "
        f"{crop}, {norm_summary(state.model, images=norm_images)}",
        f"steps {state.step}..{state.max_iters}, in {folder}",
    ]
    if trainer.devices == "auto" and gpus > 1 and world_size() == 1:
        lines.append(f"using 1 of {gpus} GPUs; trainer.devices={gpus} uses all of them")
    if restarts():
        lines.append(f"restarted after a worker died, {restarts()} times so far")
    if trainer.accumulate > 1 or world_size() > 1:
        lines += inexact_words(config.loss, state)
    lines += weight_words(config.loss, training.classes)
    if trainer.freeze_stride is not None:
        frozen = sum(size for size, trained in sizes if not trained)
        lines.append(f"frozen: {frozen:.2f} M parameters, the backbone up to stride {trainer.freeze_stride}")
    if trainer.ema_decay is not None:
        lines.append(f"evaluating and saving EMA weights, decay {trainer.ema_decay}")
    if isinstance(state.average, SWA):
        each = "every step" if trainer.swa_every == 1 else f"every {trainer.swa_every} steps"
        lines.append(
            f"from step {state.average.start} on, evaluating and saving SWA weights: the mean over {each}"
        )
    lines += group_words(config, state)
    lines += momentum_words(config)
    lines += dict.fromkeys([*training.left_out, *validation.left_out])
    if is_main():  # which says it; files are read for it
        lines += shared_images(training, validation)
        if state.step == 0:
            root = f" dataset.root={shlex.quote(config.dataset.root)}" if config.dataset.root else ""
            command = f"deeplabx data check dataset={config.dataset.name}{root}"
            lines += quick_check(training, validation, command=command)
    return [*lines, training.note] if training.note else lines


def inexact_words(loss: schema.LossSettings, state: TrainState) -> list[str]:
    """A line for a loss, or for each part of a composite one, that depends on how a batch is split."""
    names = [one.name for one in losses_of(loss)]
    built = state.loss.losses if isinstance(loss, schema.CompositeSettings) else [state.loss]
    return [
        f"loss={name} is computed for each pass of each process separately: its gradient is not that of the "
        "whole batch"
        for name, one in zip(names, built, strict=True)  # type: ignore[arg-type]
        if not one.exact
    ]


def weight_words(loss: schema.LossSettings, classes: list[str]) -> list[str]:
    """A line with the class weights of a loss, or of each part of a composite one that has some."""
    lines = []
    for index, one in enumerate(losses_of(loss)):
        weights = getattr(one, "class_weights", None)
        if weights is None:
            continue
        whose = "" if one is loss else f" of {key_of(loss, index)} ({one.name})"
        named = listed((f"{name} {weight:.4g}" for name, weight in zip(classes, weights, strict=True)), 30)
        priors = "; priors kept" if getattr(one, "keep_priors", False) else ""
        lines.append(f"class weights{whose}: {named}{priors}")
    return lines


def group_words(config: schema.TrainConfig, state: TrainState) -> list[str]:
    """The groups of parameters in one line, where they differ from the default."""
    trainer, optimizer, said = config.trainer, config.optimizer, []
    if trainer.head_lr_factor != 1:
        said.append(f"the head's learning rate is {trainer.head_lr_factor:g} times that of the rest")
    if trainer.head_bias_lr_factor is not None:
        said.append(f"its biases' {trainer.head_bias_lr_factor:g} times")
    if optimizer.layer_decay is not None:
        factors = {group.get("layer_factor", 1.0) for group in state.optimizer.param_groups} - {1.0}
        said.append(
            f"layer decay {optimizer.layer_decay:g} over {len(factors)} units of the backbone, smallest "
            f"factor {min(factors):.3g}"
            if factors
            else f"layer decay {optimizer.layer_decay:g} has no effect: the backbone is frozen"
        )
    if optimizer.no_decay is None:
        said.append("all parameters are decayed")
    elif set(optimizer.no_decay) != set(NO_DECAY):
        said.append(f"no weight decay of {', '.join(optimizer.no_decay)}")
    return [f"parameter groups: {'; '.join(said)}"] if said else []


def momentum_words(config: schema.TrainConfig) -> list[str]:
    """A warning where the run is too short for batch norm's statistics to become those of the data."""
    momentum, steps = config.model.norm_momentum, config.schedule.max_iters
    if momentum is None or config.model.norm in ("frozen", "group") or steps >= 3 / momentum:
        return []
    return [
        f"model.norm_momentum={momentum} needs about {math.ceil(3 / momentum)} steps until batch norm's "
        f"statistics are the data's; for {steps} steps set model.norm_momentum={min(0.1, 20 / steps):.2g}"
    ]
