"""An exported file where a checkpoint is expected: what eval and predict need of it."""

import json
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.config import schema
from deeplabx.config.fields import walk
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.checkpoint_folder import EXPORT, EXPORTED, read_json
from deeplabx.engine.noise import seeded
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.export.metadata import Metadata
from deeplabx.export.onnx_file import OnnxNetwork, onnx_texts
from deeplabx.export.openvino_file import OpenvinoNetwork, openvino_texts
from deeplabx.export.safetensors_file import safetensors_texts
from deeplabx.export.torch_export import TorchExportNetwork, torch_export_texts
from deeplabx.process.distributed import is_main, resolve_device, resolve_precision
from deeplabx.run import plugins
from deeplabx.run.build import model_of, predictor_of
from deeplabx.run.description import Change, Description, StoredModel

TEXTS = {
    "onnx": onnx_texts,
    "torch_export": torch_export_texts,
    "openvino": openvino_texts,
    "safetensors": safetensors_texts,
}


class Unchanged(Normalization):
    """The normalisation of a network that normalises uint8 images itself: they stay as they are."""

    def __call__(self, images: Tensor) -> Tensor:
        return images


class WithItsClasses(nn.Module):
    """An exported network whose output must be that of its metadata: a file of other classes is refused."""

    def __init__(self, network: nn.Module, metadata: Metadata, *, source: Path) -> None:
        super().__init__()
        self.network, self.source = network, source
        self.ids, self.count = metadata.output == "ids", len(metadata.classes)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images)
        if found.is_floating_point() == self.ids or found.shape[1] != (1 if self.ids else self.count):
            raise CheckpointError(
                f"{self.source} gives {found.dtype} {tuple(found.shape)}, not what its metadata says"
            )
        if self.ids and not 0 <= int(found.max()) < self.count:
            raise CheckpointError(f"{self.source} gives id {int(found.max())} of {self.count} classes")
        return found


class ExportedFile(checkpoints.Checkpoint):
    """An exported file with the interface of the checkpoint that it comes from."""

    @cached_property
    def metadata(self) -> Metadata:
        return Metadata.from_texts(TEXTS[self.format](self.path), source=self.path)

    @property
    def format(self) -> str:
        return EXPORTED[self.path.suffix]

    @property
    def description(self) -> dict[str, Any]:
        return self.metadata.description

    @property
    def state(self) -> dict[str, Any]:
        step = self.metadata.provenance.get("step", 0)
        return {"step": step if isinstance(step, int) else 0}

    def refuse_other_version(self) -> dict[str, Any]:
        return self.state  # Metadata.from_texts has refused it

    def model_tensors(self) -> dict[str, Tensor]:
        return checkpoints.load_tensors(self.path)


class ExportedModel(StoredModel):
    """An exported file and what it says of itself: in place of a StoredModel."""

    checkpoint: ExportedFile

    def predictor(self) -> Predictor:
        """The file in its own runtime. Raises ConfigError for what it cannot do."""
        file, metadata = self.checkpoint, self.checkpoint.metadata
        if metadata.output == "ids":
            refuse_scores(self.config.eval, source=file.path)
        device = resolve_device(self.config.trainer.devices)
        network = network_of(file, self.config, metadata, device=device)
        if is_main():
            print(f"{file.path} runs in {network.runs_in}", file=sys.stderr)
        return predictor_of_network(network, self.config, metadata, file=file, device=device)


def predictor_of_network(
    network: nn.Module,
    config: schema.TrainConfig,
    metadata: Metadata,
    *,
    file: ExportedFile,
    device: torch.device,
) -> Predictor:
    """What predicts with an exported network. Those of onnxruntime and OpenVINO take and give arrays of the
    host, whatever they compute on.
    """
    own = file.format in ("torch_export", "safetensors")
    normalization = metadata.normalization
    precision = config.trainer.precision if file.format == "safetensors" else "fp32"
    predictor = predictor_of(
        network if file.format == "safetensors" else WithItsClasses(network, metadata, source=file.path),
        config,
        Unchanged(*normalization) if metadata.preprocess else normalization,
        num_classes=len(metadata.classes),
        device=device if own else torch.device("cpu"),
        precision=resolve_precision(precision, device),
    )
    return replace(predictor, gives_ids=metadata.output == "ids")


def refuse_scores(config: schema.EvalConfig, *, source: Path) -> None:
    """Raise ConfigError for a setting that averages or refines scores, which a file of ids does not give."""
    wrong = [
        words
        for words, given in (
            (f"eval.scales={config.scales}", list(config.scales) != [1.0]),
            ("eval.flip=true", config.flip),
            (f"eval.window={config.window}", config.window not in (None, "auto")),
            ("eval.crf=true", config.crf),
        )
        if given
    ]
    if wrong:
        raise ConfigError(
            f"{wrong[0]} needs logits, but {source} gives ids", hint="export it with output=logits"
        )


def network_of(
    file: ExportedFile, config: schema.TrainConfig, metadata: Metadata, *, device: torch.device
) -> Any:
    """The network in an exported file, as a module that says what it `runs_in`."""
    if file.format == "onnx":
        return OnnxNetwork(file.path, device=device.type)
    if file.format == "openvino":
        return OpenvinoNetwork(file.path)
    if file.format == "torch_export":
        return TorchExportNetwork(file.path, device=device)
    with seeded(0):  # what is drawn is overwritten
        classes, channels = len(metadata.classes), len(metadata.normalization.mean)
        model: Any = model_of(config, num_classes=classes, in_channels=channels)
    checkpoints.fill(model, file.model_tensors(), source=file.path)
    model.to(device=device, memory_format=torch.channels_last).eval()
    model.runs_in = f"torch {torch.__version__}, {device.type}"
    return model


def exported_model(path: Path, *, change: Change) -> ExportedModel:
    """The exported file at `path`, as `stored_model` gives a checkpoint. Raises ConfigError for a setting
    that a graph cannot follow: those of the network, and its precision.
    """
    file = ExportedFile(path)
    refuse_exchanged(path)
    description = Description.from_plain(file.description, source=path)
    refuse_contradiction(file.metadata, description, source=path)
    trainer = description.config.trainer
    trainer.precision, trainer.devices, trainer.workers = "fp32", "auto", "auto"
    config = change(description.config)
    if file.format != "safetensors":
        refuse_other_network(config, description.config, source=path)
    warnings = plugins.changes(file.description.get("plugins"), source=path)
    return ExportedModel(file, description._replace(config=config), warnings)


def refuse_exchanged(path: Path) -> None:
    """Raise CheckpointError where export.json, if it is beside the file, was written for another."""
    record = path.parent / EXPORT
    files = read_json(record).get("files") if record.is_file() else None
    for one in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
        noted = files.get(one.name) if isinstance(files, dict) else None
        if noted is not None and noted != checkpoints.fingerprint(one):
            raise CheckpointError(
                f"{one}: checksum mismatch: {EXPORT} beside it has the sha256 of another file",
                hint="export the run again; a file from elsewhere needs a folder of its own",
            )


def refuse_contradiction(metadata: Metadata, description: Description, *, source: Path) -> None:
    """Raise CheckpointError where the two halves of what a file says of itself differ."""
    for name in ("classes", "palette", "ignore_index", "normalization"):
        if getattr(metadata, name) != getattr(description, name):
            raise CheckpointError(f"{source}: its metadata gives two different values of {name}")


def refuse_other_network(config: schema.TrainConfig, own: schema.TrainConfig, *, source: Path) -> None:
    before = {key: value for key, value, _ in walk(own)}
    for key, value, _ in walk(config):
        fixed = key.startswith(("model.", "backbone.")) or key == "trainer.precision"
        if fixed and value != before.get(key):
            typed, exported = (json.dumps(one).strip('"') for one in (value, before.get(key)))
            raise ConfigError(
                f"{key}={typed}, but {source} is a graph that was exported with {exported}",
                hint=f"export the run again with {key}={typed}"
                if key != "trainer.precision"
                else "leave it unset: an exported file computes in float32, or in int8 where it says so",
            )
