"""deeplabx train."""

import math
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import nn

from deeplabx import config as schema
from deeplabx.backbone import Normalization
from deeplabx.build import Description, dataset_of, model_of, own_settings, predictor_of
from deeplabx.checks import sees_single_values
from deeplabx.dataset import SegmentationSet
from deeplabx.dataset.class_balance import balanced_weights, count_pixels
from deeplabx.dataset.doctor import refuse_single_class
from deeplabx.dataset.io import write_image
from deeplabx.dataset.loader import Batch, training_batches
from deeplabx.dataset.transforms import StandardAugment
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.distributed import (
    gathered,
    is_main,
    own_share,
    rank,
    resolve_device,
    resolve_precision,
    share_buffers,
    shared,
    sum_in_place,
    synchronize_norm,
    world_size,
)
from deeplabx.engine.evaluator import Predictor, evaluate
from deeplabx.engine.launch import launch, restarts
from deeplabx.engine.lock import locked
from deeplabx.engine.log import Log, RunLog
from deeplabx.engine.memory import keep_freed_memory
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.signals import StopRequest, as_helper
from deeplabx.engine.state import TrainState
from deeplabx.engine.trainer import fit
from deeplabx.errors import ConfigError, DataError, PreemptedError, StoppedError, resource_error
from deeplabx.loss import build_loss
from deeplabx.model import DeepLab
from deeplabx.model.freeze import freeze_up_to
from deeplabx.model.norm import FrozenBatchNorm2d, freeze_norm
from deeplabx.optimizer import build_optimizer
from deeplabx.report.curves import draw_curves
from deeplabx.report.overlay import panel, stacked
from deeplabx.run_folder import (
    extensions_of,
    mark,
    refuse_changed,
    refuse_or_find_finished,
    what_next,
    write_result,
    write_run_files,
)
from deeplabx.schedule import build_schedule
from deeplabx.start import Start, start

EVALUATIONS = 5  # of a run, when trainer.eval_every is not set


def train(config: schema.TrainConfig, folder: Path, *, overrides: list[str]) -> float:
    """Train in `folder`, where no other run is at work; the best mIoU. Leaves DONE, FAILED or INTERRUPTED
    there.
    """
    with locked(folder) as warning:
        if warning:
            print(warning, file=sys.stderr)
        return train_alone(config, folder, overrides=overrides)


def train_alone(config: schema.TrainConfig, folder: Path, *, overrides: list[str]) -> float:
    finished = refuse_or_find_finished(folder, resume=config.resume)
    if finished is not None:
        print(f"{folder} is finished: best mIoU {finished:.4f}; deeplabx eval ckpt={folder} evaluates it")
        return finished
    try:
        best = launch(
            worker,
            config,
            folder,
            overrides,
            devices=config.trainer.devices,
            max_restarts=config.trainer.max_restarts,
        )
    except ConfigError:
        raise  # nothing began, so nothing is changed
    except (StoppedError, PreemptedError) as stopped:
        stopped.hint = what_next(folder)
        mark(folder, "INTERRUPTED", str(stopped))
        raise
    except KeyboardInterrupt:
        mark(folder, "INTERRUPTED", "at once, without a save")
        raise StoppedError("interrupted at once", hint=what_next(folder)) from None
    except Exception as error:
        mark(folder, "FAILED", str(error))
        raise
    (folder / "DONE").write_text("")
    return best


def worker(config: schema.TrainConfig, folder: Path, overrides: list[str]) -> float:
    """One process of a run. The best mIoU."""
    with StopRequest() as stop:
        return run(config, folder, overrides, stop)


def run(config: schema.TrainConfig, folder: Path, overrides: list[str], stop: StopRequest) -> float:
    """Data, model, state, loop."""
    started = time.perf_counter()
    device = resolve_device(config.trainer.devices)
    keep_freed_memory()
    config.trainer.precision = resolve_precision(config.trainer.precision, device)
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    validation = dataset_of(config.dataset, split=config.dataset.split)
    settle_length(config, len(training))
    refuse_single_class(training, skip_unreadable=config.dataset.on_bad == "skip")

    torch.manual_seed(config.seed)
    model = model_of(config, num_classes=len(training.classes))
    # The main process reads for all: the others may be on machines that do not have the run's folder.
    found, complaints = checkpoints.newest(folder / "checkpoints") if is_main() else (None, [])
    began = start(config, model, classes=training.classes) if is_main() and not found else Start([])
    settle_normalization(model, began.normalization, found)
    description = Description(
        config, list(training.classes), training.palette, training.ignore_index, model.backbone.normalization
    )
    absent = settle_class_weights(config, training, found)
    synchronized = synchronize_norm(model, norm=config.model.norm, device=device)
    freeze(config.trainer, model)
    norm_batch = norm_batch_of(config, synchronized=synchronized)
    state = state_of(config, model, ignore_index=training.ignore_index, device=device)
    if found:
        refuse_changed(config, found, extensions_of(folder))
    checkpoints.restore(state, found)
    if is_main():
        checkpoints.repair(folder / "checkpoints", state)
        write_run_files(config, folder, overrides, device)

    predictor = predictor_of(
        state.evaluated_model, config, description.normalization, device=device, precision="fp32"
    )
    batches = batches_of(config, training, state)
    log = log_of(config, folder, state)
    opening = opening_words(config, state, training, validation, folder, norm_batch=norm_batch)
    unreadable: set[str] = set()
    with log, closing(batches):
        for line in [*complaints, *began.words, *opening, *absent]:
            log.say(line)
        draw = drawing(config, state, predictor, validation, folder)
        if state.step == 0:
            draw()
        fit(
            state,
            noted(batches, unreadable),
            stop=stop,
            evaluate=evaluating(
                config, predictor, validation, stop=stop, log=log, unreadable=unreadable, draw=draw
            ),
            save=saving(state, folder / "checkpoints", description, log=log),
            log=log,
            eval_every=config.trainer.eval_every or math.ceil(state.max_iters / EVALUATIONS),
            save_every=config.trainer.save_every,
        )
        if isinstance(log, RunLog):
            write_result(folder, state, seconds=time.perf_counter() - started)
            draw_curves(folder)
            log.say(log.data_wait_words(config.trainer.workers))
            log.say(f"done: best mIoU {state.best_miou:.4f} at step {state.best['step']}, in {folder}")
            log.say(f"next: deeplabx eval ckpt={folder}   or   deeplabx predict ckpt={folder} input=IMAGE")
    return state.best_miou


# --- what the loop is given ---------------------------------------------------------------------------------


def noted(batches: Iterable[Batch], unreadable: set[str]) -> Iterator[Batch]:
    """The batches; what could not be read for them goes into `unreadable`."""
    for batch in batches:
        unreadable.update(batch.unreadable)
        yield batch


def drawing(
    config: schema.TrainConfig,
    state: TrainState,
    predictor: Predictor,
    samples: SegmentationSet,
    folder: Path,
) -> Callable[[], None]:
    """Draw a few samples, in the main process."""

    def draw() -> None:
        if is_main():
            path = folder / "samples" / f"step-{state.step:08d}.png"
            draw_samples(
                predictor,
                samples,
                path,
                count=config.trainer.samples,
                skip_unreadable=config.dataset.on_bad == "skip",
            )

    return draw


def evaluating(
    config: schema.TrainConfig,
    predictor: Predictor,
    samples: SegmentationSet,
    *,
    stop: StopRequest,
    log: Log,
    unreadable: set[str],
    draw: Callable[[], None],
) -> Callable[[], Metrics]:
    """Evaluate the split, list what could not be read so far, and draw."""

    def evaluate_state() -> Metrics:
        share_buffers(predictor.model)
        result = evaluate(
            predictor,
            samples,
            skip_unreadable=config.dataset.on_bad == "skip",
            stop=stop,
            progress=log.terminal,
        )
        log.unreadable([*gathered(list(unreadable)), *result.unreadable])
        draw()
        return result

    return evaluate_state


def saving(
    state: TrainState, folder: Path, description: Description, *, log: Log
) -> Callable[[bool, bool], bool]:
    """Save, in the main process; whether that could be done. A full disk is an error where the save is
    needed, else it is said.
    """

    def save(best: bool, needed: bool) -> bool:
        try:
            if is_main():
                checkpoints.keep(state, folder, config=description.to_plain(), best=best)
        except Exception as error:
            full = resource_error(error)
            if full is None:
                raise
            if needed:
                raise full from None
            newest = max(folder.glob("step-*"), default=None)
            kept = f"the newest checkpoint is {newest.name}" if newest else "there is no checkpoint yet"
            log.say(f"step {state.step} could not be saved: {full.message}; training goes on, {kept}")
            return False
        return True

    return save


def batches_of(
    config: schema.TrainConfig, training: SegmentationSet, state: TrainState
) -> Generator[Batch, None, None]:
    """This process's part of each remaining step's batch."""
    augment = StandardAugment(
        **own_settings(config.augment),
        pad_pixel=state.normalization.pad_pixel,
        ignore_index=training.ignore_index,
    )
    return training_batches(
        training,
        augment,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        first_step=state.step,
        last_step=state.max_iters,
        workers=config.trainer.workers,
        pin_memory=state.device.type == "cuda",
        worker_init=as_helper,
        skip_unreadable=config.dataset.on_bad == "skip",
        rank=rank(),
        world_size=world_size(),
    )


def norm_batch_of(config: schema.TrainConfig, *, synchronized: bool) -> int:
    """How many images a batch norm sees at once. Raises ConfigError where one is too few: image pooling
    leaves it a single value; and where the processes that torchrun or SLURM started cannot share the batch
    evenly.
    """
    passes = world_size() * config.trainer.accumulate
    if config.trainer.batch_size % passes:
        raise ConfigError(
            f"trainer.batch_size={config.trainer.batch_size} cannot be divided by {world_size()} processes "
            f"x trainer.accumulate = {passes}",
            hint=f"take a multiple of {passes}",
        )
    seen = config.trainer.batch_size // config.trainer.accumulate // (1 if synchronized else world_size())
    if seen == 1 and sees_single_values(config):
        raise ConfigError(
            f"trainer.batch_size={config.trainer.batch_size} leaves one image per pass to each of "
            f"{world_size()} processes: batch norm needs two",
            hint=f"type trainer.batch_size={2 * config.trainer.batch_size}, a smaller trainer.accumulate, "
            "model.norm=group or model.norm=frozen",
        )
    return seen


def log_of(config: schema.TrainConfig, folder: Path, state: TrainState) -> Log:
    """The run's log in the main process, a silent one in the others."""
    trainer = config.trainer
    if not is_main():
        return Log()
    return RunLog(
        folder,
        first_step=state.step,
        max_iters=state.max_iters,
        batch_size=trainer.batch_size,
        log_every=trainer.log_every,
    )


def settle_length(config: schema.TrainConfig, images: int) -> None:
    """Turn trainer.epochs into schedule.max_iters, so that the stored config says what ran."""
    if config.trainer.epochs is not None:
        config.schedule.max_iters = max(
            1, math.ceil(config.trainer.epochs * images / config.trainer.batch_size)
        )
        config.trainer.epochs = None
    if images == 0:
        raise DataError(f"split {config.dataset.train_split} of {config.dataset.name} holds no images")


def settle_normalization(
    model: DeepLab, of_weights: Normalization | None, found: checkpoints.Checkpoint | None
) -> None:
    """Let the model normalise its images as those were that its weights have seen: what the main process
    found says so, or the run's checkpoint.
    """
    told = shared(Description.of(found).normalization if found else of_weights)
    if told is not None:
        model.backbone.normalization = told


def settle_class_weights(
    config: schema.TrainConfig, training: SegmentationSet, found: checkpoints.Checkpoint | None
) -> list[str]:
    """Turn loss.class_balance into loss.class_weights, so that the stored config says what ran; what is to be
    said. A run that goes on takes those of its checkpoint, `found` by the main process, so that labels are
    counted once. Raises ConfigError unless there is one weight per class.
    """
    loss, classes = config.loss, training.classes
    absent: list[str] = []
    if loss.class_balance is not None and loss.class_weights is None:
        goes_on, loss.class_weights = shared(
            (found is not None, Description.of(found).config.loss.class_weights if found else None)
        )
        if not goes_on:
            counts = pixels_counted(config, training)
            loss.class_weights = balanced_weights(loss.class_balance, counts)
            absent = [name for name, pixels in zip(classes, counts[0].tolist(), strict=True) if not pixels]
    if loss.class_weights is not None and len(loss.class_weights) != len(classes):
        raise ConfigError(
            f"loss.class_weights has {len(loss.class_weights)} values, but {config.dataset.name} has "
            f"{len(classes)} classes",
            hint=f"one for each, in this order: {', '.join(classes)}",
        )
    return [f"not in the training labels, and of weight 1: {', '.join(absent)}"] if absent else []


def pixels_counted(config: schema.TrainConfig, training: SegmentationSet) -> torch.Tensor:
    """What `count_pixels` says of the training labels; each process counts its share."""
    counts = count_pixels(
        training,
        own_share(range(len(training))),
        workers=config.trainer.workers,
        skip_unreadable=config.dataset.on_bad == "skip",
        worker_init=as_helper,
    )
    return sum_in_place(counts)


def freeze(trainer: schema.TrainerConfig, model: DeepLab) -> None:
    """Let what is not to change stay as loaded. After batch norms were synchronized: that would thaw them."""
    if trainer.freeze_backbone_norm:
        freeze_norm(model.backbone)
    if trainer.freeze_stride is not None:
        freeze_up_to(model, trainer.freeze_stride)


def state_of(
    config: schema.TrainConfig, model: DeepLab, *, ignore_index: int, device: torch.device
) -> TrainState:
    return TrainState(
        model,
        build_optimizer(
            config.optimizer.name,
            model,
            head_lr_factor=config.trainer.head_lr_factor,
            head_bias_lr_factor=config.trainer.head_bias_lr_factor,
            **own_settings(config.optimizer),
        ),
        loss_sum=build_loss(**own_settings(config.loss, "class_balance"), name=config.loss.name),
        schedule=build_schedule(config.schedule.name, **own_settings(config.schedule)),
        max_iters=config.schedule.max_iters,
        normalization=model.backbone.normalization,
        ignore_index=ignore_index,
        device=device,
        seed=config.seed,
        precision=config.trainer.precision,
        accumulate=config.trainer.accumulate,
        clip_norm=config.trainer.clip_norm,
        on_nonfinite=config.trainer.on_nonfinite,
        ema_decay=config.trainer.ema_decay,
    )


def opening_words(
    config: schema.TrainConfig,
    state: TrainState,
    training: SegmentationSet,
    validation: SegmentationSet,
    folder: Path,
    *,
    norm_batch: int,
) -> list[str]:
    """What is about to run."""
    parameters = sum(parameter.numel() for parameter in state.model.parameters()) / 1e6
    kept = (
        sum(parameter.numel() for parameter in state.model.parameters() if not parameter.requires_grad) / 1e6
    )
    stride, crop, norm = config.backbone.output_stride, config.augment.crop_size, config.model.norm
    where = str(state.device.type) if world_size() == 1 else f"{world_size()} x {state.device.type}"
    lines = [
        f"{config.model.name} on {config.backbone.name}, output stride {stride}, {parameters:.2f} M "
        "parameters, "
        f"{config.trainer.precision} on {where}",
        f"{config.dataset.name}: {len(training)} training images, {len(validation)} of "
        f"{config.dataset.split}, "
        f"{len(training.classes)} classes; batch {config.trainer.batch_size} of {crop} x {crop}, "
        f"{norm_words(state.model, norm=norm, norm_batch=norm_batch)}",
        f"steps {state.step}..{state.max_iters}, in {folder}",
    ]
    if config.trainer.devices == "auto" and torch.cuda.device_count() > 1 and world_size() == 1:
        lines.append(
            f"1 of {torch.cuda.device_count()} GPUs is used; trainer.devices={torch.cuda.device_count()} "
            "takes them all"
        )
    if restarts():
        lines.append(f"started anew, {restarts()} times so far: a process was lost")
    if config.loss.class_weights is not None:
        weights = zip(training.classes, config.loss.class_weights, strict=True)
        priors = "; priors kept" if config.loss.keep_priors else ""
        lines.append(
            f"class weights: {', '.join(f'{name} {weight:.4g}' for name, weight in weights)}{priors}"
        )
    if config.trainer.freeze_stride is not None:
        lines.append(
            f"{kept:.2f} M parameters do not change: the backbone up to stride {config.trainer.freeze_stride}"
        )
    if config.trainer.ema_decay is not None:
        lines.append(f"evaluated and kept are averages of the weights, with decay {config.trainer.ema_decay}")
    lines += momentum_words(config)
    return [*lines, training.note] if training.note else lines


def norm_words(model: DeepLab, *, norm: str, norm_batch: int) -> str:
    """What its norm layers see of a batch."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    frozen = sum(isinstance(module, FrozenBatchNorm2d) for module in norms)
    if not norms:
        return "group norm" if norm == "group" else "no batch norm"
    if frozen == len(norms):
        return "batch norm is frozen"
    return f"batch norm sees {norm_batch}" + (f", {frozen} of {len(norms)} are frozen" if frozen else "")


def momentum_words(config: schema.TrainConfig) -> list[str]:
    """A warning where the run is too short for batch norm's statistics to become those of the data."""
    momentum, steps = config.model.norm_momentum, config.schedule.max_iters
    if momentum is None or config.model.norm in ("frozen", "group") or steps >= 3 / momentum:
        return []
    return [
        f"model.norm_momentum={momentum} needs about {math.ceil(3 / momentum)} steps until batch norm's "
        "statistics are the data's; "
        f"for {steps} steps type model.norm_momentum={min(0.1, 20 / steps):.2g}"
    ]


def draw_samples(
    predictor: Predictor, samples: SegmentationSet, path: Path, *, count: int, skip_unreadable: bool
) -> None:
    """Image, label and prediction of a few samples, the same ones each time."""
    panels = []
    was_training = predictor.model.training
    predictor.model.eval()
    for place in range(min(count, len(samples))):
        try:
            sample = samples[place * len(samples) // count]
        except DataError:
            if not skip_unreadable:
                raise
            continue
        predicted = predictor.ids(sample.image).cpu().numpy()
        panels.append(panel(sample.image, sample.label, predicted, samples.palette))
    predictor.model.train(was_training)
    if panels:
        write_image(path, stacked(panels))
