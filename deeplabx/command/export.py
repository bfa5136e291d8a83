"""deeplabx export: a file for another program, and the proof that it computes what the run does."""

import contextlib
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deeplabx import __version__
from deeplabx.command.job import Job
from deeplabx.command.weights import checkpoint_of, refuse_taken
from deeplabx.config import checks, schema
from deeplabx.dataset.check.shared_images import shared_images
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.checkpoint import fingerprint
from deeplabx.engine.checkpoint_folder import EXPORT, MANIFEST
from deeplabx.engine.durable import arriving
from deeplabx.engine.evaluator import evaluate, refuse_other_classes
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.predictor import Predictor, pad
from deeplabx.errors import ConfigError, DataError, listed, needed
from deeplabx.export import latency, parity, quantization
from deeplabx.export.deployed import deployed, traced
from deeplabx.export.metadata import Metadata
from deeplabx.export.onnx_file import OPSET, onnx_model, with_ids, write_onnx
from deeplabx.export.openvino_file import openvino_model, write_openvino
from deeplabx.export.parity import Comparison, SplitComparison
from deeplabx.export.safetensors_file import write_safetensors
from deeplabx.export.torch_export import TorchExportNetwork, write_torch_export
from deeplabx.process.signals import ended_by_signals
from deeplabx.run.build import dataset_of
from deeplabx.run.description import Description, StoredModel, stored_model
from deeplabx.run.exported import ExportedFile, network_of, predictor_of_network
from deeplabx.run.hand_over import write_hand_over
from deeplabx.run.paths import refuse_moved, without_local_paths

FILES = {
    "onnx": "model.onnx",
    "torch_export": "model.pt2",
    "openvino": "model.xml",
    "safetensors": "model.safetensors",
}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
REAL_IMAGES = 3  # of the split, that are compared at their own sizes
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """The settings that only `deeplabx export` has."""

    format: str = "onnx"
    preprocess: bool = True
    output: str = "logits"
    int8: bool = False
    max_loss: float = 0.01
    calibration_images: int = 64
    check_split: bool = True
    typed: frozenset[str] = frozenset()  # settings that were given

    @classmethod
    def of(cls, job: Job) -> "Settings":
        """Raises ConfigError for a value out of range, and for settings that contradict each other."""
        values = {one.name: job.config[one.name] for one in dataclasses.fields(cls) if one.name != "typed"}
        for one in dataclasses.fields(schema.ExportConfig):
            if one.name in values:
                checks.check_value(one.name, values[one.name], one)
        typed = frozenset(override.lstrip("+").partition("=")[0] for override in job.overrides)
        found = cls(**values, typed=typed)
        found.refuse_contradiction()
        return found if found.format != "safetensors" else replace(found, preprocess=False)

    def refuse_contradiction(self) -> None:
        if self.int8 and self.format not in ("onnx", "openvino"):
            raise ConfigError(
                f"int8=true, but format={self.format} has no int8 file", hint="format=onnx or format=openvino"
            )
        if self.int8 and not self.check_split:
            raise ConfigError("int8=true with check_split=false: the mIoU it loses must be measured")
        if self.format == "safetensors" and self.typed & {"preprocess", "output"}:
            raise ConfigError(
                "format=safetensors holds weights alone: preprocess= and output= have no effect",
                hint="leave them unset, or take format=onnx",
            )


@dataclass
class Split:
    """The split that model and file are evaluated on; or, in words, why they are not."""

    samples: ReadableSet | None
    why_not: str = ""


@dataclass
class Proof:
    """What was found out about one file."""

    file: str
    precision: str
    comparisons: list[Comparison]
    split: SplitComparison | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "precision": self.precision,
            "images": [one.to_plain() for one in self.comparisons],
            "split": None if self.split is None else self.split.to_plain(),
            **self.notes,
        }


class CalibrationInputs(Sequence[np.ndarray]):
    """What the file is given for each calibration image, read when it is asked for: all of them at once may
    not fit into memory.
    """

    def __init__(
        self, samples: ReadableSet, indices: Sequence[int], input_of: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self.samples, self.indices, self.input_of = samples, indices, input_of

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: Any) -> Any:
        return self.input_of(self.samples[self.indices[number]].image)


def main(job: Job) -> None:
    settings = Settings.of(job)
    found = stored_model(checkpoint_of(job.config.ckpt), change=job.changed)
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    export(found, job.folder, settings, say=print, overrides=typed(job))


def typed(job: Job) -> list[str]:
    """The overrides, without those that are paths of this machine."""
    return [one for one in job.overrides if one.partition("=")[0] not in ("ckpt", "out")]


def export(
    found: StoredModel, out: Path, settings: Settings, *, say: Say, overrides: Sequence[str] = ()
) -> Path:
    """Write the exported file and what is handed over with it into `out`, new or empty; nothing if it fails a
    check. overrides: as they were typed, for the model card.
    """
    refuse_taken(out)
    for package in PACKAGES.get(settings.format, ()):
        needed(package, extra=settings.format)
    try:
        with (
            ended_by_signals("stopped; nothing is exported"),
            arriving(out.absolute(), over=False) as folder,
        ):
            exporting = Export(found, folder, settings, say=say)
            exporting.run(overrides)
    except BaseException:
        with contextlib.suppress(OSError):  # one that held something was refused before
            out.rmdir()
        raise
    file, root = str(out / FILES[settings.format] if settings.int8 else out), found.config.dataset.root
    data = [] if root is None and exporting.model_metrics else [f"dataset.root={root or 'PATH'}"]
    say(
        f"written to {out}\nnext: {shlex.join(['deeplabx', 'eval', file, *data])}   or   "
        f"{shlex.join(['deeplabx', 'predict', file, 'IMAGE'])}"
    )
    return out


class Export:
    """One export, step by step."""

    def __init__(self, found: StoredModel, folder: Path, settings: Settings, *, say: Say) -> None:
        config = found.config
        if config.trainer.precision != "fp32":
            raise ConfigError(
                f"trainer.precision={config.trainer.precision}: files are exported in float32",
                hint="leave it unset; int8=true adds an int8 file",
            )
        config.trainer.devices = "cpu"  # where exported files are compared with the model
        self.found, self.folder, self.settings, self.say = found, folder, settings, say
        self.predictor = found.predictor()
        self.metadata = self.described()
        self.proofs: list[Proof] = []
        self.model_metrics: Metrics | None = None

    def run(self, overrides: Sequence[str]) -> None:
        began = time.perf_counter()
        split = self.opened_split()
        path = self.write_file()
        self.say(f"{path.name}: made in {time.perf_counter() - began:.0f} s")
        self.prove(path, split)
        if self.settings.int8:
            assert split.samples is not None
            self.add_int8(path, split.samples)
        timed = self.timed(split)
        write_hand_over(
            self.folder,
            self.found,
            self.metadata,
            metrics={proof.file: proof.split.file for proof in self.proofs if proof.split is not None},
            versions=self.versions(),
            overrides=overrides,
        )
        self.write_record(timed)

    def described(self) -> Metadata:
        """What the file will say of itself."""
        found, settings, checkpoint = self.found, self.settings, self.found.checkpoint
        description, state = found.description, checkpoint.state
        best = state["best"] if state["best"].get("step") == state["step"] else {}
        in_run = checkpoint.path.parent.name == "checkpoints"
        provenance = {
            "deeplabx": __version__,
            "torch": torch.__version__,
            "run": checkpoint.path.parent.parent.name if in_run else checkpoint.path.name,
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": fingerprint(checkpoint.path / MANIFEST)["sha256"],
            "step": state["step"],
            "miou": best.get("miou"),
            "precision": "float32",
        }
        return Metadata(
            classes=description.classes,
            palette=description.palette,
            ignore_index=description.ignore_index,
            normalization=description.normalization,
            preprocess=settings.preprocess,
            output=settings.output,
            provenance=provenance,
            selected=found.config.dataset.channels,
            least_size=self.predictor.crop or (1, 1),
            description=self.handed_over(),
        )

    def handed_over(self) -> dict[str, Any]:
        """The checkpoint's description without paths of this machine. Its trainer is that of the training."""
        description, data = self.found.description, self.found.description.data
        plain = description._replace(
            config=without_local_paths(description.config),
            data=None if data is None else data._replace(given_root=None),
        ).to_plain()
        trainer = self.found.checkpoint.description["config"]["trainer"]
        return {**plain, "config": {**plain["config"], "trainer": trainer}}

    # --- the data set ---

    def opened_split(self) -> Split:
        """The split to evaluate on. Raises DataError for one that was asked for, and ConfigError where int8
        cannot do without.
        """
        config, settings = self.found.config.dataset, self.settings
        if settings.int8 and config.split == config.train_split:
            raise ConfigError(
                f"int8=true with dataset.split={config.split}: its ranges come from images of that split, so "
                "what it loses must be measured on others",
                hint="set another dataset.split",
            )
        try:
            split = (
                Split(self.samples_of(config.split))
                if settings.check_split
                else Split(None, "check_split=false")
            )
        except DataError as error:
            if any(name.startswith("dataset") for name in settings.typed):
                raise
            split = Split(None, error.message)
        if split.samples is None and settings.int8:
            raise ConfigError(
                f"int8=true needs the data set, for its ranges and to measure what it loses: {split.why_not}",
                hint="add dataset.root=PATH",
            )
        return split

    def samples_of(self, split: str) -> ReadableSet:
        config, path = self.found.config.dataset, self.found.checkpoint.path
        stored = Description.of(self.found.checkpoint).config.dataset
        refuse_moved(config, stored=stored, source=path, command="deeplabx export RUN")
        samples = dataset_of(config, split=split)
        refuse_other_classes(samples, self.metadata.classes, source=path)
        return samples

    # --- the file ---

    def write_file(self) -> Path:
        """Trace the network and write it in the format that was asked for."""
        path, settings, predictor = self.folder / FILES[self.settings.format], self.settings, self.predictor
        if settings.format == "safetensors":
            write_safetensors(predictor.model, path, self.metadata)
            return path
        own = deployed(
            predictor.model,
            self.metadata.normalization,
            preprocess=settings.preprocess,
            ids=settings.output == "ids" and settings.format == "torch_export",
            num_classes=len(self.metadata.classes),
        )
        program = traced(own)
        if settings.format == "torch_export":
            write_torch_export(program, path, self.metadata)
            return path
        model = onnx_model(program)
        if settings.output == "ids":
            self.prove_logits_of(model)
            model = with_ids(model, num_classes=len(self.metadata.classes))
        self.write_graph(model, path, self.metadata)
        return path

    def write_graph(self, model: Any, path: Path, metadata: Metadata) -> None:
        """Write an ONNX model as ONNX, or as OpenVINO reads it."""
        if path.suffix == ".onnx":
            write_onnx(model, path, metadata)
            return
        intermediate = path.with_suffix(".onnx")
        write_onnx(model, intermediate, metadata)
        write_openvino(openvino_model(intermediate), path, metadata)
        intermediate.unlink()

    # --- the proof ---

    def network(self, path: Path) -> nn.Module:
        return network_of(ExportedFile(path), self.found.config, self.metadata, device=torch.device("cpu"))

    def file_predictor(self, path: Path) -> Predictor:
        return predictor_of_network(
            self.network(path),
            self.found.config,
            self.metadata,
            file=ExportedFile(path),
            device=torch.device("cpu"),
        )

    def images(self, samples: ReadableSet | None) -> Iterator[tuple[str, np.ndarray]]:
        """uint8 N x H x W x channels to compare model and file on, each with what it is."""
        stride, channels = self.found.config.backbone.output_stride, len(self.metadata.normalization.mean)
        yield from parity.natural_images(stride, channels)
        count = 0 if samples is None else min(REAL_IMAGES, len(samples))
        for number in range(count):
            assert samples is not None
            index = number * len(samples) // count
            found = samples.read(index)
            if found is not None:
                yield f"image {index} of {samples.split}", found.image[None]

    def compared(self, network: nn.Module, samples: ReadableSet | None) -> list[Comparison]:
        return [
            parity.compared(
                what,
                images,
                model=self.predictor.model,
                normalization=self.metadata.normalization,
                network=network,
                preprocess=self.metadata.preprocess,
            )
            for what, images in self.images(samples)
        ]

    def prove_logits(self, network: nn.Module) -> None:
        """The logits behind the ids of a file: ids of one class alone could be equal by chance."""
        found = self.compared(network, None)
        parity.refuse_different(found, file="the file's graph")
        self.say(f"logits: within {max(one.logits or 0 for one in found):.1e} of the largest, at five sizes")

    def prove_logits_of(self, model: Any) -> None:
        """The same of an ONNX model, before ids replace its logits."""
        path = self.folder / f"logits_{FILES[self.settings.format]}"
        self.write_graph(model, path, replace(self.metadata, output="logits"))
        self.prove_logits(self.network(path))
        for written in self.folder.glob(f"{path.stem}.*"):
            written.unlink()

    def prove(self, path: Path, split: Split) -> None:
        """Compare model and file on images, then on the split. Raises CheckpointError beyond a bound."""
        network = self.network(path)
        comparisons = self.compared(network, split.samples)
        if isinstance(network, TorchExportNetwork) and self.metadata.output == "ids":
            network.give_logits()
            self.prove_logits(network)
        for one in comparisons:
            self.say(f"  {one}")
        parity.refuse_different(comparisons, file=path.name)
        proof = Proof(path.name, "float32", comparisons)
        if split.samples is None:
            self.say(f"  not evaluated on a split: {split.why_not}")
            proof.notes["not_evaluated"] = split.why_not
        else:
            proof.split = self.on_split(path, split.samples)
            parity.refuse_other_metrics(proof.split, file=path.name)
        self.proofs.append(proof)

    def on_split(self, path: Path, samples: ReadableSet) -> SplitComparison:
        progress = sys.stderr.isatty()
        if self.model_metrics is None:
            self.model_metrics = evaluate(self.predictor, samples, progress=progress)
        file = evaluate(self.file_predictor(path), samples, progress=progress)
        found = SplitComparison(samples.split, self.model_metrics, file)
        self.say(f"  {found}")
        return found

    # --- int8 ---

    def add_int8(self, path: Path, samples: ReadableSet) -> None:
        """Write the int8 file beside the float one. Raises CheckpointError where it loses too much."""
        training = self.samples_of(self.found.config.dataset.train_split)
        for words in shared_images(training, samples):
            self.say(f"  {words}")
        indices = quantization.calibration_indices(
            self.settings.calibration_images, of=len(training), seed=self.found.config.seed
        )
        metadata = replace(self.metadata, provenance={**self.metadata.provenance, "precision": "int8"})
        final = path.with_name(f"{path.stem}_int8{path.suffix}")
        inputs = CalibrationInputs(training, indices, self.input_of)
        for attempt in quantization.ATTEMPTS:
            quantized = quantization.quantized(path, inputs, attempt=attempt)
            quantized.write(final, metadata)
            self.say(f"{final.name}: {attempt.words}; {quantized.words}")
            found = self.on_split(final, samples)
            if found.lost <= self.settings.max_loss:
                break
            self.say(f"  lost {found.lost:.4f}, max_loss={self.settings.max_loss}")
        parity.refuse_loss(found, most=self.settings.max_loss, file=final.name)
        comparisons = self.compared(self.network(final), samples)
        self.say(f"  lost {found.lost:.4f} mIoU, max_loss={self.settings.max_loss}")
        notes = {
            "attempt": attempt.words,
            "left_in_float": quantized.left_in_float,
            "calibration": {
                "split": self.found.config.dataset.train_split,
                "seed": self.found.config.seed,
                "images": indices,
            },
            "max_loss": self.settings.max_loss,
        }
        self.say(f"  left in float: {listed(quantized.left_in_float, 4) or 'none'}")
        self.proofs.append(Proof(final.name, "int8", comparisons, found, notes))

    def input_of(self, image: np.ndarray) -> np.ndarray:
        """What the file is given for an image, padded as the predictor pads it."""
        pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
        height, width = image.shape[:2]
        least, pixel = self.predictor.crop or (1, 1), self.metadata.normalization.pad_pixel
        padded = pad(pixels, max(height, least[0]), max(width, least[1]), pixel)
        given = padded if self.metadata.preprocess else self.metadata.normalization(padded).contiguous()
        return given.numpy()

    # --- time and the record ---

    def timed(self, split: Split) -> dict[str, Any]:
        """Size and latency of each file beside the model, on one image of the data set's size."""
        size = self.found.config.augment.crop_size
        channels = len(self.metadata.normalization.mean)
        sample = None if split.samples is None else split.samples.read(0)
        image = parity.random_image(size, size, channels, seed=99) if sample is None else sample.image
        given = torch.from_numpy(self.input_of(image))
        model, normalization = self.predictor.model, self.metadata.normalization

        def run_model() -> Any:
            return model(normalization(given) if self.metadata.preprocess else given)

        runs: dict[str, Callable[[], object]] = {"torch": run_model}
        for proof in self.proofs:
            runs[proof.file] = partial(self.network(self.folder / proof.file), given)
        with torch.inference_mode():
            seconds = latency.medians(runs)
        weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        sizes = {"torch": weights, **{proof.file: self.bytes_of(proof.file) for proof in self.proofs}}
        rows = {name: (sizes[name], seconds[name]) for name in runs}
        threads = torch.get_num_threads()
        height, width = given.shape[1:3] if self.metadata.preprocess else given.shape[2:]
        self.say(f"one image of {width} x {height}, {threads} threads, median:")
        self.say(latency.table(rows, first="torch"))
        return {
            "height": height,
            "width": width,
            "threads": threads,
            "variants": {name: {"bytes": size, "seconds": time_} for name, (size, time_) in rows.items()},
        }

    def bytes_of(self, name: str) -> int:
        return sum(one.stat().st_size for one in self.folder.glob(f"{Path(name).stem}.*"))

    def versions(self) -> dict[str, str]:
        packages = PACKAGES.get(self.settings.format, ())
        own = {"deeplabx": __version__, "torch": torch.__version__}
        return own | {name: needed(name, extra=self.settings.format).__version__ for name in packages}

    def write_record(self, timed: dict[str, Any]) -> None:
        record = {
            "format": self.settings.format,
            "opset": OPSET if self.settings.format == "onnx" else None,
            "files": {one.name: fingerprint(one) for one in sorted(self.folder.iterdir())},
            **self.metadata.to_plain(),
            "versions": self.versions(),
            "bounds": {"logits": parity.LOGITS, "equal_ids": parity.EQUAL_IDS, "miou": parity.MIOU},
            "proofs": [proof.to_plain() for proof in self.proofs],
            "latency": timed,
        }
        (self.folder / EXPORT).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
