"""What `import deeplabx` offers to a notebook, a script or a thread: no command line is read, the working
directory stays, and torch's global random state is left unchanged.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deeplabx.backbone.normalization import Normalization
from deeplabx.command import evaluate as evaluation
from deeplabx.command import export as exporting
from deeplabx.command import inputs
from deeplabx.command.compose import claimed, composed, run_folder, training_config
from deeplabx.command.job import Job
from deeplabx.command.overrides import prepared
from deeplabx.command.quoting import in_quotes
from deeplabx.command.stages import train_all
from deeplabx.command.table import BY_WORDS
from deeplabx.command.weights import checkpoint_of
from deeplabx.config.paths import expanded
from deeplabx.dataset.contract import id_dtype
from deeplabx.dataset.image_file import as_image
from deeplabx.dataset.listing import input_images, refuse_unreadable
from deeplabx.engine.checkpoint_folder import read_json
from deeplabx.engine.metrics import Metrics
from deeplabx.errors import ConfigError
from deeplabx.registry import register
from deeplabx.run.build import build_model
from deeplabx.run.description import StoredModel, stored_model
from deeplabx.run.exported import ExportedModel

__all__ = [
    "Result",
    "build_model",
    "compose",
    "evaluate",
    "export_model",
    "load",
    "predict",
    "register",
    "train",
]

ImageLike = str | Path | Image.Image | np.ndarray
compose = training_config


@dataclass(frozen=True)
class Result:
    """A finished training."""

    folder: Path  # of the run; evaluate, predict and load take it
    miou: float  # of the best evaluation
    step: int  # of the best evaluation
    metrics: dict[str, Any]  # of the best evaluation, as in result.json


def train(overrides: Sequence[str] = (), folder: str | Path | None = None) -> Result:
    """Train, as `deeplabx train overrides...` does.

    folder: of the run; None: as the command names it, below outputs/ in the working directory. Raises
    DeeplabxError for what the command refuses; an error in your own class is raised unchanged.
    """
    own = prepared(BY_WORDS["train"], overrides)
    config = training_config(own)
    if folder is None:
        place = claimed(run_folder("train", own).absolute())
    else:
        place = Path(expanded("folder", str(folder))).absolute()
        place.mkdir(parents=True, exist_ok=True)
    try:
        miou = train_all(config, place, overrides=own)
    finally:
        if not any(place.iterdir()):
            place.rmdir()  # a run that did not begin leaves nothing
    metrics = read_json(place / "result.json")
    return Result(place, miou, int(metrics["step"]), metrics)


def evaluate(ckpt: str | Path, overrides: Sequence[str] = ()) -> Metrics:
    """The metrics of a run or checkpoint, as `deeplabx eval ckpt overrides...` computes them; nothing is
    written.
    """
    return evaluation.evaluate(found_model("eval", ckpt, overrides))


def predict(
    ckpt: str | Path, images: ImageLike | Iterable[ImageLike], overrides: Sequence[str] = ()
) -> Iterator[np.ndarray]:
    """The class ids of each image, H x W of the image's own size; uint8, of more than 256 classes uint16.

    images: paths, folders of images, PIL images or uint8 arrays H x W x channels; one or many. The
    checkpoint is read immediately, each image when its ids are requested.
    """
    found = found_model("predict", ckpt, overrides)
    predictor, selected = found.predictor(), found.config.dataset.channels
    channels, dtype = len(predictor.normalization.mean), id_dtype(len(found.description.classes))
    each = [images] if isinstance(images, str | Path | Image.Image | np.ndarray) else images
    return (
        predictor.ids(as_image(one, channels=channels, selected=selected)).cpu().numpy().astype(dtype)
        for source in each
        for one in (in_folder(source) if isinstance(source, str | Path) else [source])
    )


def export_model(ckpt: str | Path, out: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Export a run or checkpoint into `out`, a new or empty folder, as `deeplabx export ckpt overrides...`
    does; the folder, which evaluate and predict take.

    Raises CheckpointError where the file does not compute what the model does: then nothing is written.
    """
    own = prepared(BY_WORDS["export"], [f"ckpt={in_quotes(expanded('ckpt', str(ckpt)))}", *overrides])
    settings = exporting.Settings.of(Job(BY_WORDS["export"], composed("export", own), Path(), own))
    found = found_model("export", ckpt, overrides)
    return exporting.export(found, Path(expanded("out", str(out))), settings, say=lambda words: None)


def in_folder(source: str | Path) -> Sequence[Path]:
    """An image, or every image below a folder; a warning says what was left out."""
    found = input_images(Path(expanded("images", str(source))))
    refuse_unreadable(found)
    for words in found.left_out:
        warnings.warn(words, stacklevel=3)
    return found.paths


@dataclass(frozen=True)
class Preprocess:
    """An image to the 1 x channels x H x W that a model expects.

    The image is a path, a PIL image, or a uint8 array H x W x channels (of three channels, RGB). Raises
    DataError for anything else.
    """

    normalization: Normalization
    device: torch.device
    selected: Sequence[int] | None = None  # dataset.channels

    def __call__(self, image: ImageLike) -> Tensor:
        pixels = as_image(image, channels=len(self.normalization.mean), selected=self.selected)
        own = np.require(pixels, requirements=["C", "W"])  # a copy only where torch needs one
        return self.normalization(torch.from_numpy(own).to(self.device)[None])


def load(ckpt: str | Path, *, device: str | torch.device = "cpu") -> Any:
    """The model (a torch.nn.Module) of a run, a checkpoint or a name of `deeplabx weights list`.

    It is in evaluation mode, can be pickled, and has `classes`, `palette` and `preprocess`, which puts an
    image on the model's device.
    """
    found = stored_model(checkpoint_of(expanded("ckpt", str(ckpt))))
    warn(found)
    if isinstance(found, ExportedModel) and found.checkpoint.format != "safetensors":
        raise ConfigError(
            f"{found.checkpoint.path} is a graph, not a torch module",
            hint="deeplabx.predict and deeplabx.evaluate take it; load takes runs and checkpoints",
        )
    found.config.trainer.devices = "cpu"
    place = torch.device(device)
    model: Any = found.predictor().model.to(place)
    model.classes = found.description.classes
    model.palette = found.description.palette
    model.preprocess = Preprocess(found.description.normalization, place, found.config.dataset.channels)
    return model


def found_model(command: str, ckpt: str | Path, overrides: Sequence[str]) -> StoredModel:
    """A checkpoint, and the settings of a command in place of those that it stores."""
    ckpt = expanded("ckpt", str(ckpt))
    own = prepared(BY_WORDS[command], [f"ckpt={in_quotes(ckpt)}", *overrides])
    config = composed(command, own)
    inputs.refuse_absent_checkpoint(ckpt, exported=command != "export")
    found = stored_model(checkpoint_of(ckpt), change=Job(BY_WORDS[command], config, Path(), own).changed)
    warn(found)
    return found


def warn(found: StoredModel) -> None:
    for words in found.warnings:
        warnings.warn(words, stacklevel=3)
