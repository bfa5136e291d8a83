"""deeplabx train and resume."""

import json
import math
import platform
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import yaml

from deeplabx import __version__, checks, stored
from deeplabx import config as schema
from deeplabx.backbone.pretrained import load_matching, read_tensors
from deeplabx.build import Description, dataset_of, model_of, own_settings, predictor_of
from deeplabx.dataset import SegmentationSet
from deeplabx.dataset.doctor import refuse_single_class
from deeplabx.dataset.io import write_image
from deeplabx.dataset.loader import Batch, training_batches
from deeplabx.dataset.transforms import StandardAugment
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.distributed import (
    is_main,
    rank,
    resolve_device,
    resolve_precision,
    share_buffers,
    synchronize_norm,
    world_size,
)
from deeplabx.engine.evaluator import Predictor, evaluate
from deeplabx.engine.launch import launch
from deeplabx.engine.log import Log, RunLog
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.state import TrainState
from deeplabx.engine.trainer import fit
from deeplabx.errors import CheckpointError, ConfigError, DataError, PreemptedError, StoppedError
from deeplabx.loss import build_loss
from deeplabx.model import DeepLab
from deeplabx.optimizer import build_optimizer
from deeplabx.report.curves import draw_curves
from deeplabx.report.overlay import panel, stacked
from deeplabx.schedule import build_schedule

EVALUATIONS = 5  # of a run, when trainer.eval_every is not set
# What may differ when a run is resumed: nothing that its weights depend on.
FREE_ON_RESUME = (
    "resume",
    "dataset.root",
    "dataset.sbd_root",
    "trainer.workers",
    "trainer.devices",
    "trainer.log_every",
    "trainer.samples",
)


def train(config: schema.TrainConfig, folder: Path, *, overrides: list[str]) -> float:
    """Train in `folder`; the best mIoU. Leaves DONE, FAILED or INTERRUPTED there."""
    finished = refuse_or_find_finished(folder, resume=config.resume)
    if finished is not None:
        print(f"{folder} is finished: best mIoU {finished:.4f}; deeplabx eval ckpt={folder} evaluates it")
        return finished
    try:
        best = launch(worker, config, folder, overrides, devices=config.trainer.devices)
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


def what_next(folder: Path) -> str:
    return f"deeplabx resume {folder}" if (folder / "config.yaml").is_file() else "the run had not begun: start it again"


def mark(folder: Path, name: str, words: str) -> None:
    """Leave FAILED or INTERRUPTED in a run that began; one that did not leaves nothing."""
    if (folder / "config.yaml").is_file():
        (folder / name).write_text(f"{words}\n")


def resume(folder: Path, *, change: Callable[[Any], None]) -> float:
    """Continue the run in `folder` with its own config."""
    try:
        config = stored.from_plain(schema.TrainConfig, yaml.safe_load((folder / "config.yaml").read_text()))
    except (OSError, yaml.YAMLError, ConfigError) as error:
        raise CheckpointError(f"{folder}/config.yaml cannot be read: {error}") from None
    change(config)
    config.resume = True
    overrides = folder / "overrides.yaml"
    return train(config, folder, overrides=yaml.safe_load(overrides.read_text()) if overrides.is_file() else [])


def refuse_or_find_finished(folder: Path, *, resume: bool) -> float | None:
    """The best mIoU of a finished run, None when there is work to do. Raises ConfigError for a run without `resume`."""
    started = any((folder / "checkpoints").glob("step-*"))
    if started and not resume:
        raise ConfigError(f"{folder} already holds checkpoints", hint="add resume=true to continue it, or choose another folder")
    if started and (folder / "DONE").is_file() and (folder / "result.json").is_file():
        return float(json.loads((folder / "result.json").read_text())["miou"])
    return None


def worker(config: schema.TrainConfig, folder: Path, overrides: list[str]) -> float:
    """One process of a run: data, model, state, loop. The best mIoU."""
    started = time.perf_counter()
    device = resolve_device(config.trainer.devices)
    config.trainer.precision = resolve_precision(config.trainer.precision, device)
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    validation = dataset_of(config.dataset, split=config.dataset.split)
    settle_length(config, len(training))
    refuse_single_class(training)

    torch.manual_seed(config.seed)
    model = model_of(config, num_classes=len(training.classes))
    description = Description(config, list(training.classes), training.palette, training.ignore_index, model.backbone.normalization)
    found, complaints = checkpoints.newest(folder / "checkpoints")
    loaded = [] if found else load_weights(config, model)
    synchronized = synchronize_norm(model, norm=config.model.norm, device=device)
    norm_batch = norm_batch_of(config, synchronized=synchronized)
    state = state_of(config, model, ignore_index=training.ignore_index, device=device)
    if found:
        refuse_changed(config, found)
        checkpoints.restore(state, found)
    if is_main():
        write_run_files(config, folder, overrides, device)

    predictor = predictor_of(model, config, description.normalization, device=device, precision="fp32")
    batches = batches_of(config, training, state)
    log = log_of(config, folder, state)
    with log, closing(batches):
        opening = opening_words(config, state, training, validation, folder, norm_batch=norm_batch)
        for line in [*complaints, *loaded, *opening]:
            log.say(line)

        def draw() -> None:
            if is_main():
                draw_samples(predictor, validation, folder / "samples" / f"step-{state.step:08d}.png", count=config.trainer.samples)

        def evaluate_state() -> Metrics:
            share_buffers(model)
            result = evaluate(predictor, validation, progress=log.terminal)
            draw()
            return result

        def save(best: bool) -> None:
            if is_main():
                checkpoints.keep(state, folder / "checkpoints", config=description.to_plain(), best=best)

        if state.step == 0:
            draw()
        eval_every = config.trainer.eval_every or math.ceil(state.max_iters / EVALUATIONS)
        fit(
            state,
            batches,
            evaluate=evaluate_state,
            save=save,
            log=log,
            eval_every=eval_every,
            save_every=config.trainer.save_every,
        )
        if isinstance(log, RunLog):
            write_result(folder, state, images=len(validation), seconds=time.perf_counter() - started)
            draw_curves(folder)
            log.say(log.data_wait_words(config.trainer.workers))
            log.say(f"done: best mIoU {state.best_miou:.4f} at step {state.best['step']}, in {folder}")
            log.say(f"next: deeplabx eval ckpt={folder}   or   deeplabx predict ckpt={folder} input=PICTURE")
    return state.best_miou


def batches_of(config: schema.TrainConfig, training: SegmentationSet, state: TrainState) -> Generator[Batch, None, None]:
    """This process's part of each remaining step's batch."""
    augment = StandardAugment(**own_settings(config.augment), pad_pixel=state.normalization.pad_pixel, ignore_index=training.ignore_index)
    return training_batches(
        training,
        augment,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        first_step=state.step,
        last_step=state.max_iters,
        workers=config.trainer.workers,
        pin_memory=state.device.type == "cuda",
        rank=rank(),
        world_size=world_size(),
    )


def norm_batch_of(config: schema.TrainConfig, *, synchronized: bool) -> int:
    """How many pictures a batch norm sees at once. Raises ConfigError where one is too few: image pooling leaves it a single value."""
    seen = config.trainer.batch_size // config.trainer.accumulate // (1 if synchronized else world_size())
    if seen == 1 and config.model.norm != "frozen":
        raise ConfigError(
            f"trainer.batch_size={config.trainer.batch_size} leaves one picture per pass to each of {world_size()} processes: batch norm needs two",
            hint=f"type trainer.batch_size={2 * config.trainer.batch_size}, a smaller trainer.accumulate, or model.norm=frozen",
        )
    return seen


def log_of(config: schema.TrainConfig, folder: Path, state: TrainState) -> Log:
    """The run's log in the main process, a silent one in the others."""
    trainer = config.trainer
    if not is_main():
        return Log()
    return RunLog(folder, first_step=state.step, max_iters=state.max_iters, batch_size=trainer.batch_size, log_every=trainer.log_every)


def settle_length(config: schema.TrainConfig, images: int) -> None:
    """Turn trainer.epochs into schedule.max_iters, so that the stored config says what ran."""
    if config.trainer.epochs is not None:
        config.schedule.max_iters = max(1, math.ceil(config.trainer.epochs * images / config.trainer.batch_size))
        config.trainer.epochs = None
    if images == 0:
        raise DataError(f"split {config.dataset.train_split} of {config.dataset.name} holds no pictures")


def load_weights(config: schema.TrainConfig, model: DeepLab) -> list[str]:
    """Where a fresh run starts: init_from (the whole model), else backbone.weights, else random weights. A report of what was loaded."""
    if config.init_from is not None:
        is_file = Path(config.init_from).is_file()
        tensors = read_tensors(config.init_from) if is_file else checkpoints.find(config.init_from, key="init_from").model_tensors()
        return [load_matching(model, tensors, source=f"init_from={config.init_from}").report(config.init_from)]
    if config.backbone.weights is not None:
        tensors = read_tensors(config.backbone.weights)
        return [
            load_matching(model.backbone, tensors, source=f"backbone.weights={config.backbone.weights}").report(config.backbone.weights)
        ]
    return ["random weights; backbone.weights=PATH or init_from=PATH starts from others"]


def state_of(config: schema.TrainConfig, model: DeepLab, *, ignore_index: int, device: torch.device) -> TrainState:
    return TrainState(
        model,
        build_optimizer(config.optimizer.name, model, head_lr_factor=config.trainer.head_lr_factor, **own_settings(config.optimizer)),
        loss_sum=build_loss(config.loss.name),
        schedule=build_schedule(config.schedule.name, **own_settings(config.schedule)),
        max_iters=config.schedule.max_iters,
        normalization=model.backbone.normalization,
        ignore_index=ignore_index,
        device=device,
        seed=config.seed,
        precision=config.trainer.precision,
        accumulate=config.trainer.accumulate,
        clip_norm=config.trainer.clip_norm,
    )


def refuse_changed(config: schema.TrainConfig, found: checkpoints.Checkpoint) -> None:
    """Raise ConfigError when the run in the folder was made with other settings than the ones given now."""
    made_with = Description.from_plain(found.config, source=found.path).config
    before = {key: value for key, value, _ in checks.walk(made_with)}
    now = {key: value for key, value, _ in checks.walk(config)}
    changed = [key for key in now if key not in FREE_ON_RESUME and now[key] != before.get(key)]
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)}, now {now[key]}" for key in changed[:3])
        raise ConfigError(f"this run was made with other settings: {shown}", hint="resume it with its own, or train in another folder")


def write_run_files(config: schema.TrainConfig, folder: Path, overrides: list[str], device: torch.device) -> None:
    """Say that the run begins: config, what was typed, and where it runs. Marks of an earlier end are taken away."""
    for name in ("FAILED", "INTERRUPTED"):
        (folder / name).unlink(missing_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(stored.to_plain(config), sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    environment = {
        "deeplabx": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "precision": config.trainer.precision,
        "command": sys.argv[1:],
    }
    (folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")


def opening_words(
    config: schema.TrainConfig, state: TrainState, training: SegmentationSet, validation: SegmentationSet, folder: Path, *, norm_batch: int
) -> list[str]:
    """What is about to run."""
    parameters = sum(parameter.numel() for parameter in state.model.parameters()) / 1e6
    stride, crop, norm = config.backbone.output_stride, config.augment.crop_size, config.model.norm
    where = str(state.device.type) if world_size() == 1 else f"{world_size()} x {state.device.type}"
    lines = [
        f"{config.model.name} on {config.backbone.name}, output stride {stride}, {parameters:.2f} M parameters, "
        f"{config.trainer.precision} on {where}",
        f"{config.dataset.name}: {len(training)} training pictures, {len(validation)} of {config.dataset.split}, "
        f"{len(training.classes)} classes; batch {config.trainer.batch_size} of {crop} x {crop}, "
        f"{'batch norm is frozen' if norm == 'frozen' else f'batch norm sees {norm_batch}'}",
        f"steps {state.step}..{state.max_iters}, in {folder}",
    ]
    if config.trainer.devices == "auto" and torch.cuda.device_count() > 1:
        lines.append(f"1 of {torch.cuda.device_count()} GPUs is used; trainer.devices={torch.cuda.device_count()} takes them all")
    return [*lines, training.note] if training.note else lines


def draw_samples(predictor: Predictor, samples: SegmentationSet, path: Path, *, count: int) -> None:
    """Picture, label and prediction of a few samples, the same ones each time."""
    panels = []
    was_training = predictor.model.training
    predictor.model.eval()
    for place in range(min(count, len(samples))):
        sample = samples[place * len(samples) // count]
        predicted = predictor.ids(sample.image).cpu().numpy()
        panels.append(panel(sample.image, sample.label, predicted, samples.palette))
    predictor.model.train(was_training)
    if panels:
        write_image(path, stacked(panels))


def write_result(folder: Path, state: TrainState, *, images: int, seconds: float) -> None:
    """result.json: the metrics of the best evaluation, at its step."""
    result = {**state.best, "images": images, "seconds": round(seconds, 1)}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
