"""Where a fresh run starts: weights of a whole model, of its backbone, or random ones; and a report of what
was loaded.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from deeplabx import config as schema
from deeplabx.backbone import Normalization
from deeplabx.backbone.pretrained import is_backbone_file, load_matching, read_backbone
from deeplabx.build import Description, model_of
from deeplabx.dataset import PUBLISHED_CLASSES, PUBLISHED_NUMBERS
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import CheckpointError, printable
from deeplabx.model import DeepLab
from deeplabx.model.norm import has_folded_norm
from deeplabx.weights import Imported, located, read_foreign, recognised
from deeplabx.weights.known import imagenet

UNKNOWN_CLASSES = (
    "  the file does not name its classes: those of its classifier are taken to be these, in this order"
)


class Weights(NamedTuple):
    """Weights and what is known of them."""

    source: str
    tensors: dict[str, Tensor]  # in our names
    normalization: Normalization | None = None  # what they were trained with; None: not known
    classes: list[str] | None = None  # whose a classifier's outputs are, in order
    backbone: str | None = None  # whose they are; None: not known
    words: tuple[str, ...] = ()  # for the log


class Start(NamedTuple):
    words: list[str]  # for the log
    normalization: Normalization | None = None  # of the weights; None: the backbone's own


def start(config: schema.TrainConfig, model: DeepLab, *, classes: list[str]) -> Start:
    """Fill `model` from init_from (the whole model), else backbone.weights, else leave its random weights."""
    if config.init_from is not None:
        return from_model(config, model, classes=classes)
    if config.backbone.weights not in (None, "none"):
        return from_backbone(config, model)
    return Start(
        [
            "random weights; backbone.weights=imagenet, backbone.weights=PATH or init_from=PATH start from "
            "others"
        ]
    )


# --- init_from ----------------------------------------------------------------------------------------------


def from_model(config: schema.TrainConfig, model: DeepLab, *, classes: list[str]) -> Start:
    """Weights of a whole model by name and shape; of its classifier, those of the classes that have the same
    name.
    """
    found = whole_weights(str(config.init_from))
    tensors, own = dict(found.tensors), model.state_dict()
    of_classes = [
        name
        for name in per_class(config, num_classes=len(classes))
        if fits_but_for_classes(tensors.get(name), own[name])
    ]
    words = [UNKNOWN_CLASSES] if any(tensors[name].shape == own[name].shape for name in of_classes) else []
    if found.classes is not None:
        carried = {name: found.classes.index(name) for name in classes if name in found.classes}
        for name in of_classes:
            tensors[name] = carry_classes(tensors[name], own[name], [carried.get(one) for one in classes])
        words = [*found.words, *class_words(classes, carried)] if of_classes else []
    report = load_matching(model, tensors, source=f"init_from={config.init_from}").report(found.source)
    return Start([report, *words, *folded_words(config, model)], found.normalization)


def whole_weights(init_from: str) -> Weights:
    """The weights that `init_from` names: a run, a checkpoint, known weights, or a file of tensors in our
    names or in those of another program.
    """
    path = located(init_from)
    if path.is_file() or (path / "model.json").is_file():
        foreign = read_foreign(path)
        found = recognised(foreign)
        if found is None:
            return Weights(str(path), foreign)
        return of_model(path, found) if "model" in found.settings else of_backbone(path, found)
    checkpoint = checkpoints.find(init_from, key="init_from")
    description = Description.of(checkpoint)
    return Weights(
        str(checkpoint.path), checkpoint.model_tensors(), description.normalization, description.classes
    )


def of_model(path: Path, found: Imported) -> Weights:
    """A model of another program, which does not name its classes: where their number is that of a published
    data set, they are taken to be its.
    """
    dataset = PUBLISHED_NUMBERS.get(found.num_classes)
    words = (f"  its {found.num_classes} classes are taken to be those of {dataset}",) if dataset else ()
    classes = PUBLISHED_CLASSES[dataset][0] if dataset else None
    return Weights(f"{path} ({found.source})", found.tensors, found.normalization, classes, words=words)


def of_backbone(path: Path, found: Imported) -> Weights:
    """A classification network, for the backbone of a model."""
    return Weights(
        f"{path} ({found.source})",
        {f"backbone.{name}": value for name, value in found.tensors.items()},
        found.normalization,
    )


def per_class(config: schema.TrainConfig, *, num_classes: int) -> list[str]:
    """The parameters of a model that have a row for each class: those whose shape depends on the number of
    classes.
    """
    with torch.device("meta"):
        model, larger = (
            model_of(config, num_classes=number).state_dict() for number in (num_classes, num_classes + 1)
        )
    return [name for name in model if model[name].shape != larger[name].shape]


def fits_but_for_classes(theirs: Tensor | None, own: Tensor) -> bool:
    return theirs is not None and theirs.ndim == own.ndim and theirs.shape[1:] == own.shape[1:]


def carry_classes(theirs: Tensor, own: Tensor, rows: list[int | None]) -> Tensor:
    """`own` with the row of each class that has one among theirs."""
    carried = own.clone()
    for place, row in enumerate(rows):
        if row is not None:
            carried[place] = theirs[row]
    return carried


def class_words(classes: list[str], carried: dict[str, int]) -> list[str]:
    new = [name for name in classes if name not in carried]
    words = [f"  classes carried over by name: {printable(', '.join(carried)) or 'none'}"]
    return [*words, f"  classes that start anew: {printable(', '.join(new))}"] if new else words


# --- backbone.weights ---------------------------------------------------------------------------------------


def from_backbone(config: schema.TrainConfig, model: DeepLab) -> Start:
    name, spec = config.backbone.name, str(config.backbone.weights)
    found = backbone_weights(
        located(imagenet(name).name if spec == "imagenet" else spec), import_it=name != "timm"
    )
    theirs = found.backbone or name
    if theirs != name:
        raise CheckpointError(
            f"backbone.weights={spec} is of {theirs}, not of {name}",
            hint=f"type backbone={theirs}, or give {name}'s weights",
        )
    report = load_matching(model.backbone, found.tensors, source=f"backbone.weights={spec}").report(
        found.source
    )
    return Start([report, *folded_words(config, model)], found.normalization)


def backbone_weights(path: Path, *, import_it: bool) -> Weights:
    """A backbone's weights: what `weights import` wrote, a whole model's backbone, another program's file, or
    tensors in our names.

    import_it: whether other programs' names become ours; a network of timm keeps timm's.
    """
    if is_backbone_file(path):
        stored = read_backbone(path)
        return Weights(
            f"{path} ({stored.source})", stored.tensors, stored.normalization, backbone=stored.backbone
        )
    foreign = read_foreign(path)
    found = recognised(foreign) if import_it else None
    if found is None:
        return Weights(str(path), foreign)
    return Weights(
        f"{path} ({found.source})",
        backbone_tensors(found),
        found.normalization,
        backbone=str(found.settings["backbone"]),
    )


def backbone_tensors(found: Imported) -> dict[str, Tensor]:
    """The backbone's tensors of an import, by the backbone's names."""
    if "model" not in found.settings:
        return found.tensors
    return {
        name.removeprefix("backbone."): value
        for name, value in found.tensors.items()
        if name.startswith("backbone.")
    }


def folded_words(config: schema.TrainConfig, model: DeepLab) -> list[str]:
    """A warning where batch norms that came without statistics are to be trained."""
    if not has_folded_norm(model) or config.model.norm == "frozen" or config.trainer.freeze_backbone_norm:
        return []
    return [
        "  their batch norms are folded, without statistics: trainer.freeze_backbone_norm=true keeps what "
        "they compute"
    ]
