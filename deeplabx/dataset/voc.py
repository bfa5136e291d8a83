"""Pascal VOC 2012 with its augmented training set: SBD's .mat files, or the SegmentationClassAug PNGs made
from them.
"""

from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.files import LabelledFiles, Pairs, complete, root_folder, root_hint
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.image_header import Header
from deeplabx.dataset.label_file import RawLabel
from deeplabx.dataset.labels import LabelMap, voc_palette
from deeplabx.dataset.listing import Names, contents, images_in, lines_of, nfc
from deeplabx.dataset.mat_file import matrix_of
from deeplabx.errors import DataError

CLASSES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
LABEL_MAP = {**{index: index for index in range(len(CLASSES))}, 255: IGNORE_INDEX}
SPLITS = ("train", "val", "trainval", "train_aug")
LISTS = "ImageSets/Segmentation"
AUGMENTED = "SegmentationClassAug"
AUGMENTED_LISTS = ("train_aug.txt", "trainaug.txt")  # both names are in use
SBD_FOLDERS = ("benchmark_RELEASE/dataset", "sbd", "SBD")  # beside VOCdevkit; the first is the archive's own
HOW_TO_GET = (
    "download VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012, then set "
    "dataset.root=PATH (the parent of VOCdevkit)"
)
PUBLISHED = (
    "published VOC results use train_aug, 10,582 images; the official train has 1,464: expect a lower mIoU"
)


class VOC(LabelledFiles):
    """`root` is the folder that holds VOCdevkit, or VOC2012 itself. `sbd_root`: SBD's `dataset` folder, if it
    is not beside VOCdevkit.
    """

    classes = CLASSES
    palette = voc_palette(len(CLASSES))

    def __init__(self, *, root: str | None, split: str, sbd_root: str | None = None) -> None:
        base = root_folder(root, name="voc", how_to_get=HOW_TO_GET)
        voc = year_folder(base)
        if split not in SPLITS:
            raise DataError(f"dataset split {split} is not a split of VOC: {', '.join(SPLITS)}")
        pairs, left_out = (
            augmented_pairs(voc, sbd_folder(base, voc, sbd_root))
            if split == "train_aug"
            else (official_pairs(voc, split), [])
        )
        pairs = complete(pairs, where=f"{voc}, split {split}", hint=HOW_TO_GET)
        super().__init__(pairs, label_map=LabelMap(LABEL_MAP))
        self.folder = voc
        self.note = PUBLISHED if split == "train" else ""
        self.left_out = left_out

    def read_raw(self, path: Path) -> RawLabel:
        return RawLabel(read_sbd(path)) if path.suffix == ".mat" else super().read_raw(path)

    def label_header(self, path: Path) -> Header | None:
        return None if path.suffix == ".mat" else header_of(path, mask=True)


def year_folder(base: Path) -> Path:
    """The VOC2012 folder at or below `dataset.root`."""
    found = known_year_folder(base)
    if found is not None:
        return found
    raise DataError(
        f"dataset.root={base} must contain VOCdevkit/VOC2012, or JPEGImages and SegmentationClass, but "
        f"{contents(base)}",
        hint=root_hint(base, lambda path: known_year_folder(path) is not None, how_to_get=HOW_TO_GET),
    )


def known_year_folder(base: Path) -> Path | None:
    for folder in (base, base / "VOC2012", base / "VOCdevkit" / "VOC2012"):
        if (folder / "JPEGImages").is_dir():
            return folder
    return None


def official_pairs(voc: Path, split: str) -> Pairs:
    files = Names()
    return [
        (files.path(voc, f"JPEGImages/{name}.jpg"), files.path(voc, f"SegmentationClass/{name}.png"))
        for name in split_names(voc, split)
    ]


def split_names(voc: Path, split: str) -> list[str]:
    path = voc / LISTS / f"{split}.txt"
    if not path.is_file():
        raise DataError(f"{path} is missing: it lists the images of split {split}", hint=HOW_TO_GET)
    return listed_stems(path)


def augmented_pairs(voc: Path, sbd: Path | None) -> tuple[Pairs, list[str]]:
    """train_aug: every image labelled by VOC or SBD that is not in VOC's val; VOC's label is preferred. Also
    what lies among the labels and is none, in words.
    """
    labels, files = voc / AUGMENTED, Names()
    if labels.is_dir():
        lists = [voc / LISTS / name for name in AUGMENTED_LISTS if (voc / LISTS / name).is_file()]
        if lists:
            stems, left_out = listed_stems(lists[0]), []
        else:
            found = images_in(labels, suffixes=(".png",))
            stems, left_out = [path.stem for path in found.paths], found.left_out
        named = [(f"JPEGImages/{name}.jpg", f"{AUGMENTED}/{name}.png") for name in without_val(voc, stems)]
        return [(files.path(voc, image), files.path(voc, label)) for image, label in named], left_out
    if sbd is None:
        raise DataError(
            f"train_aug needs {voc / AUGMENTED}, or SBD's {SBD_FOLDERS[0]} beside VOCdevkit (or "
            "dataset.sbd_root=PATH); neither exists",
            hint=f"or set dataset.train_split=train; {PUBLISHED}",
        )
    found = images_in(sbd / "cls", suffixes=(".mat",))
    if not found.paths:
        raise DataError(f"{sbd / 'cls'} contains no .mat files: unpack SBD there")
    chosen = {nfc(path.stem): path for path in found.paths}
    official = split_names(voc, "train")
    chosen |= {name: files.path(voc, f"SegmentationClass/{name}.png") for name in official}
    names = without_val(voc, list(chosen))
    return [(files.path(voc, f"JPEGImages/{name}.jpg"), chosen[name]) for name in names], found.left_out


def listed_stems(path: Path) -> list[str]:
    """The image names in a list, in NFC. Lists in use hold names, names with another column, or lines of two
    paths (/JPEGImages/a.jpg ...).
    """
    return [nfc(Path(line.split()[0]).stem) for line in lines_of(path)]


def without_val(voc: Path, names: list[str]) -> list[str]:
    """The names that are not in VOC's val: SBD's own split contains some of its images, which would leak the
    test set.
    """
    return sorted({nfc(name) for name in names} - set(split_names(voc, "val")))


def sbd_folder(base: Path, voc: Path, sbd_root: str | None) -> Path | None:
    if sbd_root is not None:
        if not (Path(sbd_root) / "cls").is_dir():
            raise DataError(
                f"dataset.sbd_root={sbd_root} must contain cls/ with .mat files, but "
                f"{contents(Path(sbd_root))}"
            )
        return Path(sbd_root)
    places = [parent / name for parent in (base, voc, voc.parent, voc.parent.parent) for name in SBD_FOLDERS]
    return next((place for place in places if (place / "cls").is_dir()), None)


def read_sbd(path: Path) -> np.ndarray:
    """uint8 H x W of ids from one of SBD's .mat files (GTcls.Segmentation)."""
    label = matrix_of(path, ("GTcls", "Segmentation"), what="one of SBD's label files")
    if label.dtype != np.uint8:
        raise DataError(
            f"{path} is not one of SBD's label files: GTcls.Segmentation is not a matrix of 8-bit ids"
        )
    return label
