"""The weights that a new run begins with: a whole model's, its backbone's, or random ones; and a report of
what was loaded.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.backbone.pretrained import is_backbone_file, load_matching, read_backbone
from deeplabx.config import schema
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import CheckpointError, printable
from deeplabx.model.contract import DeepLab
from deeplabx.model.norm import folded_norms
from deeplabx.run.build import meta_network, model_of, published_classes
from deeplabx.run.description import Description
from deeplabx.weights.contract import Imported
from deeplabx.weights.importers import located, read_foreign, recognised
from deeplabx.weights.known import imagenet

UNKNOWN_CLASSES = "  no class names in the file; assuming this data set's classes, in this order"


class Weights(NamedTuple):
    """Weights and what is known of them."""

    source: str
    tensors: dict[str, Tensor]  # in our names
    normalization: Normalization | None = None  # what they were trained with; None: not known
    classes: list[str] | None = None  # whose a classifier's outputs are, in order
    backbone: str | None = None  # whose they are; None: not known
    words: tuple[str, ...] = ()  # for the log


class InitialWeights(NamedTuple):
    words: list[str]  # for the log
    normalization: Normalization | None = None  # of the images that they were trained on; None: not known


def load_initial_weights(config: schema.TrainConfig, model: DeepLab, *, classes: list[str]) -> InitialWeights:
    """Fill `model` from init_from (the whole model), else from backbone.weights, else leave it as
    initialised.
    """
    if config.init_from is not None:
        return from_model(config, model, classes=classes)
    if config.backbone.weights not in (None, "none"):
        return from_backbone(config, model)
    return InitialWeights(
        [
            "randomly initialised; backbone.weights=imagenet, backbone.weights=PATH or init_from=PATH load "
            "weights"
        ]
    )


# --- init_from ----------------------------------------------------------------------------------------------


def from_model(config: schema.TrainConfig, model: DeepLab, *, classes: list[str]) -> InitialWeights:
    """Weights of a whole model by name and shape; of its classifier, those of the classes that have the same
    name.
    """
    found = whole_weights(str(config.init_from))
    tensors, own = dict(found.tensors), model.state_dict()
    names = per_class(config, num_classes=len(classes), in_channels=len(model.backbone.normalization.mean))
    of_classes = [name for name in names if fits_but_for_classes(tensors.get(name), own[name])]
    carried: dict[str, int] = {}
    words = [UNKNOWN_CLASSES] if any(tensors[name].shape == own[name].shape for name in of_classes) else []
    if found.classes is not None:
        carried = {name: found.classes.index(name) for name in classes if name in found.classes}
        for name in of_classes:
            tensors[name] = carry_classes(tensors[name], own[name], [carried.get(one) for one in classes])
        words = [*found.words, *class_words(classes, carried)] if of_classes else []
    loaded = load_matching(model, tensors, source=f"init_from={config.init_from}")
    drawn = of_classes if found.classes is not None and not carried else []  # a classifier as initialised
    filled = filled_words(
        model,
        set(loaded.used) - set(drawn),
        what=f"init_from={config.init_from}",
        theirs=found.tensors,
        partial=config.init_from_partial,
    )
    report = loaded.report(found.source)
    return InitialWeights([report, filled, *words, *folded_words(config, model)], found.normalization)


def whole_weights(init_from: str) -> Weights:
    """The weights that `init_from` names: a run, a checkpoint, known weights, or a file of tensors in our
    names or in those of another program.
    """
    path = located(init_from)
    if path.is_file() or (path / "model.json").is_file():
        foreign = read_foreign(path)
        found = recognised(foreign, meta_network)
        if found is None:
            return Weights(str(path), foreign)
        return of_model(path, found) if "model" in found.settings else of_backbone(path, found)
    checkpoint = checkpoints.find(init_from, key="init_from")
    description = Description.of(checkpoint)
    return Weights(
        str(checkpoint.path), checkpoint.model_tensors(), description.normalization, description.classes
    )


def of_model(path: Path, found: Imported) -> Weights:
    """A model of another program, which does not name its classes: by their number they are assumed to be
    those of a published data set.
    """
    dataset = found.published_dataset
    published = published_classes(dataset) if dataset else None
    words = (f"  assuming that its {found.num_classes} classes are those of {dataset}",) if published else ()
    classes = published[0] if published else None
    return Weights(f"{path} ({found.source})", found.tensors, found.normalization, classes, words=words)


def of_backbone(path: Path, found: Imported) -> Weights:
    """A classification network, for the backbone of a model."""
    return Weights(
        f"{path} ({found.source})",
        {f"backbone.{name}": value for name, value in found.tensors.items()},
        found.normalization,
    )


def per_class(config: schema.TrainConfig, *, num_classes: int, in_channels: int = 3) -> list[str]:
    """The parameters of a model that have a row for each class: those whose shape depends on the number of
    classes.
    """
    with torch.device("meta"):
        model, larger = (
            model_of(config, num_classes=number, in_channels=in_channels).state_dict()
            for number in (num_classes, num_classes + 1)
        )
    return [name for name in model if model[name].shape != larger[name].shape]


def fits_but_for_classes(theirs: Tensor | None, own: Tensor) -> bool:
    return theirs is not None and theirs.ndim == own.ndim and theirs.shape[1:] == own.shape[1:]


def carry_classes(theirs: Tensor, own: Tensor, rows: list[int | None]) -> Tensor:
    """`own` with the row of each class that has one among theirs."""
    carried = own.clone()
    for index, row in enumerate(rows):
        if row is not None:
            carried[index] = theirs[row]
    return carried


def class_words(classes: list[str], carried: dict[str, int]) -> list[str]:
    new = [name for name in classes if name not in carried]
    words = [f"  classes carried over by name: {printable(', '.join(carried)) or 'none'}"]
    return [*words, f"  randomly initialised classes: {printable(', '.join(new))}"] if new else words


# --- backbone.weights ---------------------------------------------------------------------------------------


def from_backbone(config: schema.TrainConfig, model: DeepLab) -> InitialWeights:
    name, spec = config.backbone.name, str(config.backbone.weights)
    path = located(imagenet(name).name if spec == "imagenet" else spec)
    found = backbone_weights(path, import_it=not model.backbone.keeps_foreign_names)
    theirs = found.backbone or name
    if theirs != name:
        raise CheckpointError(
            f"backbone.weights={spec} is of {theirs}, not of {name}",
            hint=f"set backbone={theirs}, or give weights of {name}",
        )
    loaded = load_matching(model.backbone, found.tensors, source=f"backbone.weights={spec}")
    filled = filled_words(
        model.backbone,
        set(loaded.used),
        what=f"backbone.weights={spec}",
        theirs=found.tensors,
        partial=config.init_from_partial,
    )
    report = loaded.report(found.source)
    return InitialWeights([report, filled, *folded_words(config, model)], found.normalization)


def backbone_weights(path: Path, *, import_it: bool) -> Weights:
    """A backbone's weights: what `weights import` wrote, a whole model's backbone, another program's file, or
    tensors in our names.

    import_it: whether other programs' names become ours.
    """
    if is_backbone_file(path):
        stored = read_backbone(path)
        return Weights(
            f"{path} ({stored.source})", stored.tensors, stored.normalization, backbone=stored.backbone
        )
    foreign = read_foreign(path)
    found = recognised(foreign, meta_network) if import_it else None
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


# --- how much of a model was filled -------------------------------------------------------------------------


def filled_words(
    network: nn.Module, filled: set[str], *, what: str, theirs: Mapping[str, Tensor], partial: bool
) -> str:
    """How many of how many tensors of each module of a model (or of a backbone) were filled. Raises
    CheckpointError for fewer than half of all, unless `partial`: the file is probably of another network.

    Tensors are counted, not their values: what does not fit does not by its name, and by values a single
    large layer, as VGG's fc6, would outweigh all others.
    """
    own = list(network.state_dict())
    of_module = Counter(name.partition(".")[0] for name in own)
    found = Counter(name.partition(".")[0] for name in own if name in filled)
    each = ", ".join(f"{module} {found[module]} of {number}" for module, number in of_module.items())
    words = f"{found.total()} of {len(own)} tensors"
    if 2 * found.total() < len(own) and not partial:
        lacking = next(name for name in own if name not in filled)
        unused = [name for name, value in theirs.items() if name not in own and value.ndim]
        unused.sort(key=lambda name: name.partition(".")[0] != lacking.partition(".")[0])  # that module first
        names = f"it has names such as {printable(unused[0], 80)}, " if unused else "it has no others; "
        raise CheckpointError(
            f"{what} fills only {words}: {each}",
            hint=f"{names}the network has {lacking}: are model and backbone the same?\n"
            "init_from_partial=true initialises the tensors that are not filled randomly",
        )
    return f"  filled: {words}: {each}"


def folded_words(config: schema.TrainConfig, model: DeepLab) -> list[str]:
    """A warning where batch norms that came without statistics are to be trained."""
    trainer = config.trainer
    kept = config.model.norm == "frozen" or trainer.freeze_backbone_norm or trainer.unfold_norm is not None
    if kept or not folded_norms(model):
        return []
    return [
        "  their batch norms are folded, without statistics: trainer.unfold_norm=128 measures some, "
        "trainer.freeze_backbone_norm=true keeps what they compute"
    ]
