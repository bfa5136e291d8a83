"""Config → objects: what the commands share. The names in a config are looked up in the tables of their
rooms, and nowhere else.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from deeplabx import config as schema
from deeplabx import stored
from deeplabx.backbone import RESNETS, Normalization, build_backbone
from deeplabx.dataset import SegmentationSet, build_dataset
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.distributed import resolve_device, resolve_precision
from deeplabx.engine.evaluator import Predictor
from deeplabx.engine.state import AUTOCAST
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.model import DeepLab, build_head, model_class
from deeplabx.model.crf import DenseCRF


def own_settings(config: Any, *shared: str) -> dict[str, Any]:
    """A group's settings but its name and those listed: what its builder takes."""
    return {name: value for name, value in vars(config).items() if name not in ("name", *shared)}


def network(
    name: str, backbone: str, *, num_classes: int, of_backbone: dict[str, Any], of_model: dict[str, Any]
) -> DeepLab:
    """The model `name` on `backbone`, with random weights. What the backbone is not told, multi-grid and
    output stride, is as the model has it.
    """
    model = model_class(name)
    settings = {"output_stride": model.reference_stride, **of_backbone}
    if backbone in RESNETS and not model.multi_grid and settings.get("multi_grid") is None:
        settings["multi_grid"] = ()
    return build_head(name, build_backbone(backbone, **settings), num_classes=num_classes, **of_model)


def model_of(config: Any, *, num_classes: int) -> DeepLab:
    """The model that `config.model` and `config.backbone` describe, with random weights."""
    of_backbone, of_model = (
        own_settings(config.backbone, "weights"),
        own_settings(config.model, "recommended"),
    )
    return network(
        config.model.name,
        config.backbone.name,
        num_classes=num_classes,
        of_backbone=of_backbone,
        of_model=of_model,
    )


def dataset_of(config: schema.DatasetConfig, *, split: str) -> SegmentationSet:
    return build_dataset(
        config.name, split=split, **own_settings(config, "split", "train_split", "on_bad", "recommended")
    )


def predictor_of(
    model: nn.Module,
    config: schema.TrainConfig,
    normalization: Normalization,
    *,
    device: torch.device,
    precision: str,
) -> Predictor:
    crop = config.eval.crop or config.dataset.recommended.eval_crop
    return Predictor(
        model,
        normalization,
        device,
        scales=config.eval.scales,
        flip=config.eval.flip,
        window=config.eval.window,
        crop=(crop[0], crop[1]) if crop else None,
        crf=DenseCRF(config.eval.crf_iterations, *config.eval.crf_position, *config.eval.crf_bilateral)
        if config.eval.crf
        else None,
        dtype=AUTOCAST.get(precision),
    )


class Description(NamedTuple):
    """What a checkpoint's config.json says: enough to rebuild model, preprocessing and classes without the
    data set.
    """

    config: schema.TrainConfig
    classes: list[str]
    palette: list[tuple[int, int, int]]
    ignore_index: int
    normalization: Normalization

    def to_plain(self) -> dict[str, Any]:
        return {
            "config": stored.to_plain(self.config),
            "classes": self.classes,
            "palette": [list(colour) for colour in self.palette],
            "ignore_index": self.ignore_index,
            "preprocess": {"mean": list(self.normalization.mean), "std": list(self.normalization.std)},
        }

    @classmethod
    def of(cls, checkpoint: checkpoints.Checkpoint) -> "Description":
        return cls.from_plain(checkpoint.config, source=checkpoint.path)

    @classmethod
    def from_plain(cls, plain: dict[str, Any], *, source: Path) -> "Description":
        try:
            found = cls(
                config=stored.from_plain(schema.TrainConfig, plain["config"]),
                classes=list(plain["classes"]),
                palette=[(colour[0], colour[1], colour[2]) for colour in plain["palette"]],
                ignore_index=int(plain["ignore_index"]),
                normalization=Normalization(
                    mean=tuple(plain["preprocess"]["mean"]), std=tuple(plain["preprocess"]["std"])
                ),
            )
            found.refuse_nonsense()
            return found
        except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
            raise CheckpointError(f"{source}/config.json is not one of this version: {error!r}") from None

    def refuse_nonsense(self) -> None:
        """Raise ValueError for what no run writes."""
        for name in self.classes:
            if not (isinstance(name, str) and name.isprintable()):
                raise ValueError("a class is not a name")
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        if not all(
            isinstance(channel, int) and 0 <= channel <= 255 for colour in self.palette for channel in colour
        ):
            raise ValueError("a colour is not three numbers from 0 to 255")
        mean, std = self.normalization.mean, self.normalization.std
        if (
            len(mean) != 3
            or len(std) != 3
            or not all(math.isfinite(value) for value in (*mean, *std))
            or min(std) <= 0
        ):
            raise ValueError("preprocess is not a mean and a std of three channels")


class Described(NamedTuple):
    """A checkpoint and what is to be done with it, before anything is built: what several processes are
    given.
    """

    checkpoint: checkpoints.Checkpoint
    description: Description


def described(ckpt: str, *, change: Any = lambda config: None) -> Described:
    """The checkpoint of `ckpt`. It predicts in float32 and on the best device unless `change`, which may
    alter the stored config, says otherwise.
    """
    checkpoint = checkpoints.find(ckpt)
    description = Description.of(checkpoint)
    description.config.trainer.precision, description.config.trainer.devices = "fp32", "auto"
    change(description.config)
    return Described(checkpoint, description)


def restored(found: Described) -> Predictor:
    """The checkpoint's model in evaluation mode, as it predicts. Raises CheckpointError when its tensors are
    not the model's.
    """
    checkpoint, description = found
    config = description.config
    device = resolve_device(config.trainer.devices)
    model = model_of(config, num_classes=len(description.classes))
    checkpoints.fill(model, checkpoint.model_tensors(), source=checkpoint.path)
    model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    precision = resolve_precision(config.trainer.precision, device)
    return predictor_of(model, config, description.normalization, device=device, precision=precision)
