"""The code, images and weights that went into a checkpoint, with their licences."""

from pathlib import Path

from deeplabx.config import schema
from deeplabx.dataset.terms import IMAGENET, terms_of
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import DeeplabxError
from deeplabx.export.model_card import Origin
from deeplabx.run.description import Description
from deeplabx.weights import efficientnet_lite, google, keras
from deeplabx.weights.known import (
    BY_NAME,
    EFFICIENTNET_LITE0,
    GOOGLE_DEEPLABV3,
    KERAS_RESNET50,
    Known,
    imagenet,
)

CODE = Origin("code", "deeplabx", "Apache-2.0")
IMAGENET_IMAGES = Origin("images of the starting weights", "ImageNet-1k", *IMAGENET)
# Published weights, by what their importer calls them.
PUBLISHED = {
    google.SOURCE: GOOGLE_DEEPLABV3,
    keras.SOURCE: KERAS_RESNET50,
    efficientnet_lite.SOURCE: EFFICIENTNET_LITE0,
}


def origins_of(checkpoint: checkpoints.Checkpoint) -> list[Origin]:
    """Each once: the code, the images, then the weights that the training started from, back to the first."""
    return list(dict.fromkeys([CODE, *model_origins(checkpoint, seen=set())]))


def model_origins(checkpoint: checkpoints.Checkpoint, *, seen: set[Path]) -> list[Origin]:
    if checkpoint.path in seen:
        return []
    seen.add(checkpoint.path)
    description = Description.of(checkpoint)
    config = description.config
    terms = terms_of(config.dataset.name)
    if description.data is None:
        images = Origin("images", f"{config.dataset.name}, as its publisher says", *terms)
        return [*imported_origins(checkpoint.path), images]
    trained = description.data.training
    images = Origin("images", f"{config.dataset.name}, {trained.number} of {trained.split}", *terms)
    return [images, *start_origins(config, seen=seen)]


def start_origins(config: schema.TrainConfig, *, seen: set[Path]) -> list[Origin]:
    """Of the weights that a training started from."""
    if config.init_from is not None:
        if config.init_from in BY_NAME:
            return known_origins(BY_NAME[config.init_from])
        try:
            return model_origins(checkpoints.find(config.init_from, key="init_from"), seen=seen)
        except DeeplabxError:  # removed since, or a file of another program: its name is all that is known
            return [unknown_weights(Path(config.init_from).name)]
    weights, backbone = config.backbone.weights, config.backbone
    if weights in (None, "none"):
        return []
    if weights in BY_NAME:
        return known_origins(BY_NAME[weights])
    if weights != "imagenet":
        return [unknown_weights(Path(weights).name)]
    if isinstance(backbone, schema.TimmSettings):
        return [unknown_weights(f"timm's {backbone.model}"), IMAGENET_IMAGES]
    return known_origins(imagenet(backbone.name))


def known_origins(entry: Known) -> list[Origin]:
    weights = Origin("starting weights", f"{entry.name}: {entry.source}", entry.licence)
    return [weights] if entry.model else [weights, IMAGENET_IMAGES]


def unknown_weights(name: str) -> Origin:
    return Origin("starting weights", name, "see their publisher", "the licence of some weights is not known")


def imported_origins(folder: Path) -> list[Origin]:
    """Of an imported checkpoint, by the first line of its report: where the weights are from."""
    report = folder / checkpoints.REPORT
    if not report.is_file():
        return [unknown_weights("an imported checkpoint without a report")]
    given, _, source = report.read_text(encoding="utf-8").partition("\n")[0].rpartition(": ")
    if given in BY_NAME:  # downloaded by us, and compared with its sha256
        return known_origins(BY_NAME[given])
    if source in PUBLISHED:
        entry = PUBLISHED[source]
        return [
            Origin(
                "starting weights",
                f"{entry.name}: {entry.source}",
                f"{entry.licence}, if the file is the published one",
                "a file of weights was not compared with the published one",
            )
        ]
    return [unknown_weights(source)]
