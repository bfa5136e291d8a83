"""The data sets by name. To add one: a file here, a line in DATASETS, a YAML in conf/dataset/."""

from collections.abc import Callable
from typing import Any

from deeplabx.dataset import camvid, cityscapes, voc
from deeplabx.dataset.camvid import CamVid
from deeplabx.dataset.cityscapes import Cityscapes
from deeplabx.dataset.contract import Palette, Sample, SegmentationSet
from deeplabx.dataset.files import leads_out
from deeplabx.dataset.folder import Folder
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.shapes import Shapes
from deeplabx.dataset.voc import VOC
from deeplabx.errors import ConfigError, DataError

DATASETS: dict[str, Callable[..., SegmentationSet]] = {
    "shapes": Shapes,
    "voc": VOC,
    "cityscapes": Cityscapes,
    "camvid": CamVid,
    "folder": Folder,
}
# names and colours of the data sets whose classes are fixed, without their files
PUBLISHED_CLASSES: dict[str, tuple[list[str], Palette]] = {
    "voc": (voc.CLASSES, voc_palette(len(voc.CLASSES))),
    "cityscapes": (
        [label.name for label in cityscapes.CLASS_TABLE],
        [label.colour for label in cityscapes.CLASS_TABLE],
    ),
    "camvid": (camvid.CLASSES, camvid.PALETTE),
}
PUBLISHED_NUMBERS = {
    21: "voc",
    19: "cityscapes",
}  # whose classes a published model has, by their number: models seldom name them

__all__ = ["DATASETS", "PUBLISHED_CLASSES", "PUBLISHED_NUMBERS", "Sample", "SegmentationSet", "build_dataset"]


def build_dataset(name: str, *, split: str, **settings: Any) -> SegmentationSet:
    """One split of a data set. `settings` are its own, such as root. Raises DataError when its files are not
    as expected.
    """
    if name not in DATASETS:
        raise ConfigError(f"dataset={name} is not known", hint=f"data sets: {', '.join(DATASETS)}")
    if leads_out(split):
        raise ConfigError(f"dataset split {split!r} leads out of dataset.root")
    try:
        return DATASETS[name](split=split, **settings)
    except OSError as error:  # no right to read, a name too long, a link in a circle
        raise DataError(f"{error.filename}: {error.strerror}") from None
