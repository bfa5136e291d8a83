"""What other settings of an evaluation cost on this machine, and what they gain: for the report."""

import copy
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from deeplabx.command.job import Job
from deeplabx.config import checks, schema
from deeplabx.dataset.contract import Sample, widened
from deeplabx.engine import durable
from deeplabx.engine.evaluator import refuse_other_classes
from deeplabx.engine.metrics import confusion_matrix, metrics
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import CheckpointError, ConfigError, DataError
from deeplabx.process.distributed import resolve_device
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.run_page.folder import VARIANTS
from deeplabx.run.build import dataset_of
from deeplabx.run.description import StoredModel, stored_model
from deeplabx.run.evaluation import machine_of
from deeplabx.run.paths import refuse_moved
from deeplabx.run.report import SCALES
from deeplabx.run.report_source import Source

Change = Callable[[schema.TrainConfig], schema.TrainConfig]


@dataclass(frozen=True)
class Settings:
    """The settings that only `deeplabx report` has."""

    variants: bool = False
    variant_images: int = 20

    @classmethod
    def of(cls, job: Job) -> "Settings":
        """Raises ConfigError for a value out of range."""
        names = [one.name for one in dataclasses.fields(cls)]
        for one in dataclasses.fields(schema.ReportConfig):
            if one.name in names:
                checks.check_value(one.name, job.config[one.name], one)
        return cls(**{name: job.config[name] for name in names})


class Variant(NamedTuple):
    """A way to evaluate. settings: of `deeplabx eval`, beside those that the run was evaluated with."""

    name: str
    settings: tuple[str, ...]


EIGHT, FLIP = "backbone.output_stride=8", "eval.flip=true"
TRIED = (
    Variant("as evaluated", ()),
    Variant("output stride 8", (EIGHT,)),
    Variant("flip", (FLIP,)),
    Variant("scales 0.5 to 1.75", (SCALES,)),
    Variant("scales and flip", (SCALES, FLIP)),
    Variant("output stride 8, scales and flip", (EIGHT, SCALES, FLIP)),
)


def measure_variants(folder: Path, *, images: int, change: Change) -> None:
    """Evaluate `images` of the run's split with each variant, and write variants.json into its folder."""
    source = Source.of(folder, change=change)
    if source.target is None or source.stored is None:
        raise CheckpointError(f"{folder} does not say which weights were evaluated, so nothing is measured")
    found = stored_model(str(source.target), change=change)
    if not source.is_run and source.config is not None:
        found = with_config(found, source.config)  # the evaluation's own settings
    refuse_moved(
        found.config.dataset,
        stored=source.stored.dataset,
        source=folder,
        command=f"deeplabx report {folder} variants=true",
    )
    with ended_by_signals("stopped, nothing was written"):
        samples = dataset_of(found.config.dataset, split=found.config.dataset.split)
        refuse_other_classes(samples, found.description.classes, source=found.checkpoint.path)
        count = min(images, len(samples))
        chosen = [number * len(samples) // count for number in range(count)]
        read = [one for one in map(samples.read, chosen) if one is not None]
        if not read:
            raise DataError(
                f"none of {count} images of split {samples.split} can be read, so nothing is measured",
                hint="deeplabx data check lists them; more may be readable: variant_images=N",
            )
        rows = []
        for variant, own in variants_of(found):
            rows.append(measured(variant, own, read, ignore_index=samples.ignore_index))
            seconds = rows[-1]["seconds_per_image"]
            print(f"{variant.name}: mIoU {rows[-1]['miou']:.4f}, {seconds:.3f} s per image")
    device = resolve_device(found.config.trainer.devices)
    content = {
        "step": int(found.checkpoint.state["step"]),
        "split": samples.split,
        "images": len(read),
        "of": len(samples),
        **machine_of(device),
        "rows": rows,
    }
    durable.replace(folder / VARIANTS, json.dumps(content, indent=2) + "\n")


def with_config(found: StoredModel, config: schema.TrainConfig) -> StoredModel:
    return found._replace(description=found.description._replace(config=config))


def variants_of(found: StoredModel) -> Iterator[tuple[Variant, StoredModel]]:
    """Those that differ, each with its model; what a model or an exported file cannot do is said, and left
    out.
    """
    seen: list[Any] = []
    fixed = found.checkpoint.path.is_file()  # an exported file, whose output stride cannot be changed
    for variant in TRIED:
        config = copy.deepcopy(found.config)
        if EIGHT in variant.settings:
            if fixed or not hasattr(config.backbone, "output_stride"):
                continue
            config.backbone.output_stride = 8
        if SCALES in variant.settings:
            config.eval.scales = [float(one) for one in SCALES.partition("=")[2].strip("[]").split(",")]
        if FLIP in variant.settings:
            config.eval.flip = True
        if (config.backbone, config.eval) in seen:
            continue
        seen.append((config.backbone, config.eval))
        try:
            checks.check(config, training=False)
        except ConfigError as error:
            print(f"{variant.name}: left out, {error.message}", file=sys.stderr)
            continue
        yield variant, with_config(found, config)


def measured(
    variant: Variant, found: StoredModel, samples: Sequence[Sample], *, ignore_index: int
) -> dict[str, Any]:
    """A row of variants.json. Time is of the prediction alone; a first one, which is slower, does not
    count.
    """
    predictor, classes = found.predictor(), found.description.classes
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    predicted(predictor, samples[0])
    seconds = 0.0
    for sample in tqdm(samples, desc=variant.name, leave=False, disable=not sys.stderr.isatty()):
        began = time.perf_counter()
        ids = predicted(predictor, sample)
        seconds += time.perf_counter() - began
        labels = torch.from_numpy(widened(sample.label))
        confusion += confusion_matrix(ids, labels, num_classes=len(classes), ignore_index=ignore_index)
    return {
        "name": variant.name,
        "settings": list(variant.settings),
        "miou": metrics(confusion, classes).miou,
        "seconds_per_image": seconds / len(samples),
    }


def predicted(predictor: Predictor, sample: Sample) -> torch.Tensor:
    return predictor.ids(sample.image).cpu()  # which waits for a GPU
