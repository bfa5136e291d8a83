"""deeplabx train, resume and extend."""

import contextlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
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
from deeplabx.engine import durable
from deeplabx.engine.distributed import (
    gathered,
    is_main,
    rank,
    resolve_device,
    resolve_precision,
    share_buffers,
    synchronize_norm,
    world_size,
)
from deeplabx.engine.evaluator import Predictor, evaluate
from deeplabx.engine.launch import launch, restarts
from deeplabx.engine.lock import locked
from deeplabx.engine.log import Log, RunLog
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.signals import StopRequest, as_helper
from deeplabx.engine.state import TrainState
from deeplabx.engine.trainer import fit
from deeplabx.errors import CheckpointError, ConfigError, DataError, DivergedError, PreemptedError, StoppedError, resource_error
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
    "trainer.max_restarts",
    "trainer.on_nonfinite",
    "trainer.eval_every",
    "trainer.save_every",
    "trainer.log_every",
    "trainer.samples",
)
EXTENSIONS = "extensions.json"


def train(config: schema.TrainConfig, folder: Path, *, overrides: list[str]) -> float:
    """Train in `folder`, where no other run is at work; the best mIoU. Leaves DONE, FAILED or INTERRUPTED there."""
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
        best = launch(worker, config, folder, overrides, devices=config.trainer.devices, max_restarts=config.trainer.max_restarts)
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


def what_is_kept(folder: Path) -> str:
    newest = max((folder / "checkpoints").glob("step-*"), default=None)
    return "no checkpoint is there yet" if newest is None else f"the newest checkpoint is {newest.name}"


def mark(folder: Path, name: str, words: str) -> None:
    """Leave FAILED or INTERRUPTED in a run that began; one that did not leaves nothing."""
    if (folder / "config.yaml").is_file():
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            (folder / name).write_text(f"{words}\n")


def resume(folder: Path, *, change: Callable[[Any], None]) -> float:
    """Continue the run in `folder` with its own config, changed where that does not touch its weights."""
    refuse_links_out(folder)
    config = config_of(folder)
    change(config)
    config.resume = True
    return train(config, folder, overrides=overrides_of(folder))


def extend(folder: Path, *, max_iters: int, change: Callable[[Any], None]) -> float:
    """Let the run in `folder` go on to `max_iters`, further than it was planned to. Says what that means for its learning rate."""
    refuse_links_out(folder)
    config = config_of(folder)
    found, _ = checkpoints.newest(folder / "checkpoints")
    if found is None:
        raise CheckpointError(f"{folder} holds no checkpoint to go on from", hint="train it first, with the schedule.max_iters you want")
    step, planned = int(found.state["step"]), config.schedule.max_iters
    if max_iters <= planned:
        raise ConfigError(f"schedule.max_iters={max_iters} does not extend a run of {planned}", hint=f"type more than {planned}")
    old, new = (build_schedule(config.schedule.name, **own_settings(replace(config.schedule, max_iters=n))) for n in (planned, max_iters))
    change(config)
    config.schedule.max_iters = max_iters
    config.resume = True
    record = [*extensions_of(folder), {"at_step": step, "from": planned, "to": max_iters}]
    refuse_changed(config, found, record)
    with locked(folder):
        durable.replace(folder / EXTENSIONS, json.dumps(record, indent=2) + "\n")
        durable.replace(folder / "config.yaml", yaml.safe_dump(stored.to_plain(config), sort_keys=False))
        (folder / "DONE").unlink(missing_ok=True)
    lr = config.optimizer.lr
    print(
        f"{folder} stands at step {step} of {planned}, with a learning rate of {lr * old(min(step, planned - 1)):.3g}.\n"
        f"In a schedule of {max_iters} it is {lr * new(step):.3g} there: it goes up, and falls to its end anew. The weights will not be those of a\n"
        f"run of {max_iters} from the start; {EXTENSIONS} says so in the run's folder. For those, train anew with schedule.max_iters={max_iters}."
    )
    return train(config, folder, overrides=overrides_of(folder))


def config_of(folder: Path) -> schema.TrainConfig:
    try:
        return stored.from_plain(schema.TrainConfig, read_yaml(folder / "config.yaml"))
    except ConfigError as error:
        raise CheckpointError(f"{folder}/config.yaml cannot be used: {error}") from None


def overrides_of(folder: Path) -> list[str]:
    path = folder / "overrides.yaml"
    overrides = read_yaml(path) if path.is_file() else []
    return [override for override in overrides if isinstance(override, str)] if isinstance(overrides, list) else []


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def extensions_of(folder: Path) -> list[dict[str, Any]]:
    """When the run was extended, and from how many steps to how many."""
    path = folder / EXTENSIONS
    if not path.is_file():
        return []
    try:
        return [{name: int(one[name]) for name in ("at_step", "from", "to")} for one in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from None


def leads_into(link: Path, home: Path) -> bool:
    try:
        return link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links in a circle
        return False


def refuse_links_out(folder: Path) -> None:
    """Raise CheckpointError for a link that leads out of a run's folder: to go on with the run would be to write there."""
    home = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not leads_into(path, home):
            raise CheckpointError(f"{path} is a link that leads out of the run's folder", hint="put what it leads to in its place")


def refuse_or_find_finished(folder: Path, *, resume: bool) -> float | None:
    """The best mIoU of a finished run, None when there is work to do. Raises ConfigError for a run without `resume`."""
    started = any((folder / "checkpoints").glob("step-*"))
    if started and not resume:
        raise ConfigError(f"{folder} already holds checkpoints", hint="add resume=true to continue it, or choose another folder")
    if started and (folder / "DONE").is_file() and (folder / "result.json").is_file():
        return float(json.loads((folder / "result.json").read_text())["miou"])
    return None


def worker(config: schema.TrainConfig, folder: Path, overrides: list[str]) -> float:
    """One process of a run. The best mIoU."""
    with StopRequest() as stop:
        return run(config, folder, overrides, stop)


def run(config: schema.TrainConfig, folder: Path, overrides: list[str], stop: StopRequest) -> float:
    """Data, model, state, loop."""
    started = time.perf_counter()
    device = resolve_device(config.trainer.devices)
    config.trainer.precision = resolve_precision(config.trainer.precision, device)
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    validation = dataset_of(config.dataset, split=config.dataset.split)
    settle_length(config, len(training))
    skip_unreadable = config.dataset.on_bad == "skip"
    refuse_single_class(training, skip_unreadable=skip_unreadable)

    torch.manual_seed(config.seed)
    model = model_of(config, num_classes=len(training.classes))
    description = Description(config, list(training.classes), training.palette, training.ignore_index, model.backbone.normalization)
    # The main process reads for all: the others may be on machines that do not have the run's folder.
    found, complaints = checkpoints.newest(folder / "checkpoints") if is_main() else (None, [])
    loaded = load_weights(config, model) if is_main() and not found else []
    synchronized = synchronize_norm(model, norm=config.model.norm, device=device)
    norm_batch = norm_batch_of(config, synchronized=synchronized)
    state = state_of(config, model, ignore_index=training.ignore_index, device=device)
    if found:
        refuse_changed(config, found, extensions_of(folder))
    checkpoints.restore(state, found)
    if is_main():
        checkpoints.repair(folder / "checkpoints", state)
        write_run_files(config, folder, overrides, device)

    predictor = predictor_of(model, config, description.normalization, device=device, precision="fp32")
    batches = batches_of(config, training, state)
    log = log_of(config, folder, state)
    unreadable: set[str] = set()
    with log, closing(batches):
        opening = opening_words(config, state, training, validation, folder, norm_batch=norm_batch)
        for line in [*complaints, *loaded, *opening]:
            log.say(line)

        def noted() -> Iterator[Batch]:
            for batch in batches:
                unreadable.update(batch.unreadable)
                yield batch

        def draw() -> None:
            if is_main():
                path = folder / "samples" / f"step-{state.step:08d}.png"
                draw_samples(predictor, validation, path, count=config.trainer.samples, skip_unreadable=skip_unreadable)

        def evaluate_state() -> Metrics:
            share_buffers(model)
            result = evaluate(predictor, validation, skip_unreadable=skip_unreadable, stop=stop, progress=log.terminal)
            log.unreadable([*gathered(list(unreadable)), *result.unreadable])
            draw()
            return result

        def save(best: bool, needed: bool) -> bool:
            if not is_main():
                return True
            try:
                checkpoints.keep(state, folder / "checkpoints", config=description.to_plain(), best=best)
            except DivergedError:
                raise
            except Exception as error:
                full = resource_error(error)
                if full is None:
                    raise
                if needed:
                    raise full from None
                log.say(f"step {state.step} could not be saved: {full.message}; training goes on, {what_is_kept(folder)}")
                return False
            return True

        if state.step == 0:
            draw()
        eval_every = config.trainer.eval_every or math.ceil(state.max_iters / EVALUATIONS)
        fit(
            state,
            noted(),
            stop=stop,
            evaluate=evaluate_state,
            save=save,
            log=log,
            eval_every=eval_every,
            save_every=config.trainer.save_every,
        )
        if isinstance(log, RunLog):
            write_result(folder, state, seconds=time.perf_counter() - started)
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
        worker_init=as_helper,
        skip_unreadable=config.dataset.on_bad == "skip",
        rank=rank(),
        world_size=world_size(),
    )


def norm_batch_of(config: schema.TrainConfig, *, synchronized: bool) -> int:
    """How many pictures a batch norm sees at once. Raises ConfigError where one is too few: image pooling leaves it a single value; and where
    the processes that torchrun or SLURM started cannot share the batch evenly.
    """
    passes = world_size() * config.trainer.accumulate
    if config.trainer.batch_size % passes:
        raise ConfigError(
            f"trainer.batch_size={config.trainer.batch_size} cannot be divided by {world_size()} processes x trainer.accumulate = {passes}",
            hint=f"take a multiple of {passes}",
        )
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
        on_nonfinite=config.trainer.on_nonfinite,
    )


def refuse_changed(config: schema.TrainConfig, found: checkpoints.Checkpoint, extensions: list[dict[str, Any]]) -> None:
    """Raise ConfigError when the run in the folder was made with other settings than the ones given now. It may have been extended since."""
    made_with = Description.from_plain(found.config, source=found.path).config
    before = {key: value for key, value, _ in checks.walk(made_with)}
    now = {key: value for key, value, _ in checks.walk(config)}
    if extensions and extensions[-1]["to"] == now["schedule.max_iters"]:
        before["schedule.max_iters"] = now["schedule.max_iters"]
    changed = [key for key in now if key not in FREE_ON_RESUME and now[key] != before.get(key)]
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)}, now {now[key]}" for key in changed[:3])
        raise ConfigError(f"this run was made with other settings: {shown}", hint="resume it with its own, or train in another folder")


def write_run_files(config: schema.TrainConfig, folder: Path, overrides: list[str], device: torch.device) -> None:
    """Say that the run begins: config, what was typed, and where it runs. Marks of an earlier end are taken away."""
    for name in ("FAILED", "INTERRUPTED"):
        (folder / name).unlink(missing_ok=True)
    durable.replace(folder / "config.yaml", yaml.safe_dump(stored.to_plain(config), sort_keys=False))
    durable.replace(folder / "overrides.yaml", yaml.safe_dump(overrides))
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
    durable.replace(folder / "environment.json", json.dumps(environment, indent=2) + "\n")


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
    if restarts():
        lines.append(f"started anew, {restarts()} times so far: a process was lost")
    return [*lines, training.note] if training.note else lines


def draw_samples(predictor: Predictor, samples: SegmentationSet, path: Path, *, count: int, skip_unreadable: bool) -> None:
    """Picture, label and prediction of a few samples, the same ones each time."""
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


def write_result(folder: Path, state: TrainState, *, seconds: float) -> None:
    """result.json: the metrics of the best evaluation, at its step."""
    durable.replace(folder / "result.json", json.dumps({**state.best, "seconds": round(seconds, 1)}, indent=2) + "\n")
