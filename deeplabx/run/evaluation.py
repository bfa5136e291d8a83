"""What evaluations of runs, checkpoints and exported files leave in a folder, beside result.json."""

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from deeplabx.config import schema
from deeplabx.dataset.fingerprint import image_names
from deeplabx.dataset.groups import image_groups
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import durable
from deeplabx.engine.checkpoint_folder import read_json
from deeplabx.engine.metrics import sha256_of
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.record.record import IMAGES, PREDICTIONS, Record, write_predictions
from deeplabx.engine.record.recorder import Recorder
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.model.size import convolutions, parameter_count
from deeplabx.process.machine import cpu_model
from deeplabx.report.run_page.folder import COST
from deeplabx.run.build import model_of

KEPT = (PREDICTIONS, COST, IMAGES)  # files of an evaluation, in the order in which they are written
PREVIOUS = ".previous-evaluation"  # folder in a run's: of the best checkpoint that is saved


def recorder_of(samples: ReadableSet, config: schema.TrainConfig, *, step: int) -> Recorder:
    """Of an evaluation of `samples`, with the weights of `step`."""
    return Recorder(
        samples,
        names=image_names(samples, root=config.dataset.root),
        groups=image_groups(samples),
        dataset=config.dataset.name,
        step=step,
        details=config.eval.details,
    )


def write_evaluation(folder: Path, recorder: Recorder, cost: dict[str, Any]) -> None:
    """Write images.npz, predictions.zip and cost.json."""
    assert recorder.record is not None, "the evaluation is not finished"
    write_predictions(folder, recorder.predictions)
    durable.replace(folder / COST, json.dumps(cost, indent=2) + "\n")
    recorder.record.write(folder)  # the last one: where it is, the others are too


def add_seconds(folder: Path, seconds: float) -> None:
    """Write into cost.json what the whole run or evaluation took, which result.json does not hold. Raises
    CheckpointError for a cost.json that is damaged.
    """
    path = folder / COST
    cost = read_json(path) if path.is_file() else {}  # with a full disk it may not have been written
    durable.replace(path, json.dumps({**cost, "seconds": round(seconds, 1)}, indent=2) + "\n")


def keep_previous(folder: Path, saved: Mapping[str, Any]) -> None:
    """Copy the evaluation of a run's folder before it is replaced, if it is that of the best checkpoint that
    is saved: that of a step which is never saved may be replaced.
    """
    if saved and is_of(folder, saved):
        (folder / PREVIOUS).mkdir(exist_ok=True)
        copied(folder, folder / PREVIOUS)


def restore_previous(folder: Path, best: Mapping[str, Any]) -> list[str]:
    """Restore the evaluation of a run's best checkpoint where its folder holds that of a step that was not
    saved, as a killed run leaves it. Returns a line for the log where there is nothing to restore from.
    """
    if not best or not (folder / IMAGES).is_file() or is_of(folder, best):
        return []
    if is_of(folder / PREVIOUS, best):
        copied(folder / PREVIOUS, folder)
        return []
    return [
        f"{IMAGES} is not of the best evaluation, step {best.get('step')}: deeplabx eval {folder} makes one "
        "for reports and comparisons"
    ]


def is_of(folder: Path, best: Mapping[str, Any]) -> bool:
    """Whether the evaluation in a folder is the one with these results."""
    try:
        record = Record.read(folder)
    except CheckpointError:
        return False
    own = record.step, sha256_of(record.counts.confusion())
    return own == (best.get("step"), best.get("confusion_sha256"))


def copied(source: Path, target: Path) -> None:
    for name in KEPT:
        with durable.arriving_file(target / name) as path:
            shutil.copyfile(source / name, path)


def cost_of(recorder: Recorder, config: schema.TrainConfig, predictor: Predictor) -> dict[str, Any]:
    """What an evaluation has cost, on this machine: parameters, multiply-adds of all passes for the first
    image, whose height and width are given, images per second of predicting alone, and the peak of memory.
    """
    assert recorder.record is not None, "the evaluation is not finished"
    height, width = recorder.record.sizes[0].tolist()
    cost: dict[str, int | None] = {
        "parameters": parameter_count(predictor.model),
        "multiply_adds": recorder.multiply_adds,
    }
    if not recorder.multiply_adds:  # an exported graph
        classes, channels = len(recorder.record.classes), len(predictor.normalization.mean)
        cost = network_cost(config, classes=classes, channels=channels, height=height, width=width)
    on_gpu = predictor.device.type == "cuda"
    return {
        **cost,
        "height": height,
        "width": width,
        "images_per_second": round(1 / median(recorder.seconds), 3),
        "peak_memory": torch.cuda.max_memory_allocated() if on_gpu else peak_resident_memory(),
        **machine_of(predictor.device),
    }


def machine_of(device: torch.device) -> dict[str, Any]:
    """On what a speed was measured: the name of the device, and the threads of a CPU's work."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_model() or "cpu"
    return {"device": name, "threads": torch.get_num_threads()}


def network_cost(
    config: schema.TrainConfig, *, classes: int, channels: int, height: int, width: int
) -> dict[str, int | None]:
    """Parameters, and multiply-adds of one pass, of the network that a graph was exported from. None for what
    cannot be counted: its package is not installed, which the graph does not need, or torch's meta device
    cannot run it.
    """
    found: dict[str, int | None] = {"parameters": None, "multiply_adds": None}
    try:
        with torch.device("meta"):
            model = model_of(config, num_classes=classes, in_channels=channels).eval()
    except ConfigError:
        return found
    found["parameters"] = parameter_count(model)
    with contextlib.suppress(RuntimeError, NotImplementedError, StopIteration):
        # it may compute with values, or have no convolution
        ran = convolutions(model, height=height, width=width)
        found["multiply_adds"] = sum(one.multiply_adds for one in ran)
    return found


def peak_resident_memory() -> int:
    """Bytes of this process so far, at most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)
