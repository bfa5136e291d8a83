"""What a checkpoint says of itself, and the model that is built from it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deeplabx import registry
from deeplabx.backbone.normalization import Normalization
from deeplabx.config import loss_parts, schema, stored
from deeplabx.dataset.contract import is_class_name
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.checkpoint_folder import exported_file
from deeplabx.engine.noise import seeded
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.process.distributed import resolve_device, resolve_precision
from deeplabx.run import plugins
from deeplabx.run.build import model_of, predictor_of
from deeplabx.run.data_record import DataRecord

Change = Callable[[schema.TrainConfig], schema.TrainConfig]  # a stored config to the one that is used


class Description(NamedTuple):
    """What a checkpoint's config.json says: enough to rebuild model, preprocessing and classes without the
    data set.
    """

    config: schema.TrainConfig
    classes: list[str]
    palette: list[tuple[int, int, int]]
    ignore_index: int
    normalization: Normalization
    data: DataRecord | None = None  # what it was trained on; None: not by a run of this program

    def to_plain(self) -> dict[str, Any]:
        return {
            "plugins": plugins.needed(options_of(self.config)),
            "config": stored.to_plain(self.config),
            "classes": self.classes,
            "palette": [list(colour) for colour in self.palette],
            "ignore_index": self.ignore_index,
            "preprocess": {"mean": list(self.normalization.mean), "std": list(self.normalization.std)},
            "data": None if self.data is None else self.data.to_plain(),
        }

    @classmethod
    def of(cls, checkpoint: checkpoints.Checkpoint) -> "Description":
        checkpoint.refuse_other_version()
        return cls.from_plain(checkpoint.description, source=checkpoint.path)

    @classmethod
    def from_plain(cls, plain: dict[str, Any], *, source: Path) -> "Description":
        plugins.refuse_absent(plain.get("plugins"), source=source)
        try:
            found = cls(
                config=config_from_plain(plain["config"]),
                classes=list(plain["classes"]),
                palette=[(colour[0], colour[1], colour[2]) for colour in plain["palette"]],
                ignore_index=int(plain["ignore_index"]),
                normalization=Normalization(
                    mean=tuple(plain["preprocess"]["mean"]), std=tuple(plain["preprocess"]["std"])
                ),
                data=None if plain["data"] is None else DataRecord.from_plain(plain["data"]),
            )
            found.refuse_nonsense()
            return found
        except ConfigError as error:
            raise CheckpointError(f"{source}/config.json: {error.message}", hint=error.hint) from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CheckpointError(f"{source}/config.json is not one of this version: {error!r}") from None

    def refuse_nonsense(self) -> None:
        """Raise ValueError for what no run writes."""
        for name in self.classes:
            if not is_class_name(name):
                raise ValueError("a class is not a name")
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        values = [channel for colour in self.palette for channel in colour]
        if not all(isinstance(channel, int) and 0 <= channel <= 255 for channel in values):
            raise ValueError("a colour is not three numbers from 0 to 255")
        mean, std = self.normalization
        if not mean or len(mean) != len(std):
            raise ValueError("preprocess has no mean and std for each channel")
        if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
            raise ValueError("preprocess is not a finite mean and a positive std")


def options_of(config: schema.TrainConfig) -> list[tuple[str, str]]:
    """The options of a config, as (group, name): one of each group, and the parts of a composite loss."""
    parts = loss_parts.parts_of(config.loss, settings_of=registry.settings_of)
    return [
        *((group, getattr(config, group).name) for group in registry.GROUPS),
        *dict.fromkeys(("loss", one.settings.name) for one in parts),
    ]


def config_from_plain(plain: Any) -> schema.TrainConfig:
    """A stored config as dataclasses. Raises ConfigError."""
    found: schema.TrainConfig = stored.from_plain(schema.TrainConfig, plain, settings_of=registry.settings_of)
    found.loss = loss_parts.completed(found.loss, settings_of=registry.settings_of)
    return found


class StoredModel(NamedTuple):
    """A checkpoint and what it says of itself, before anything is built: what several processes are given."""

    checkpoint: checkpoints.Checkpoint
    description: Description
    warnings: list[str]  # plug-ins that have changed since it was saved

    @property
    def config(self) -> schema.TrainConfig:
        return self.description.config

    def predictor(self) -> Predictor:
        """The model in evaluation mode. Raises CheckpointError when the checkpoint's tensors are not the
        model's.
        """
        device = resolve_device(self.config.trainer.devices)
        classes, normalization = self.description.classes, self.description.normalization
        with seeded(0):  # what is drawn is overwritten
            model = model_of(self.config, num_classes=len(classes), in_channels=len(normalization.mean))
        checkpoints.fill(model, self.checkpoint.model_tensors(), source=self.checkpoint.path)
        model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        precision = resolve_precision(self.config.trainer.precision, device)
        return predictor_of(
            model,
            self.config,
            normalization,
            num_classes=len(classes),
            device=device,
            precision=precision,
        )


def stored_model(ckpt: str, *, change: Change = lambda config: config) -> StoredModel:
    """The checkpoint of `ckpt`, or the exported file that it is. It predicts in float32 and on the best
    device unless `change` says otherwise.
    """
    exported = exported_file(ckpt)
    if exported is not None:
        from deeplabx.run.exported import exported_model  # here, because it builds on this module

        return exported_model(exported, change=change)
    checkpoint = checkpoints.find(ckpt)
    description = Description.of(checkpoint)
    trainer = description.config.trainer
    trainer.precision, trainer.devices, trainer.workers = "fp32", "auto", "auto"
    warnings = plugins.changes(checkpoint.description.get("plugins"), source=checkpoint.path)
    return StoredModel(checkpoint, description._replace(config=change(description.config)), warnings)
