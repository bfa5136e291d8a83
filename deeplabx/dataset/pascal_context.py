"""Pascal-Context: whole scenes of Pascal VOC 2010 in 59 classes; the rest is background, which is not a class
unless it is asked for.
"""

import re
from pathlib import Path

from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.files import LabelledFiles, Pairs, complete, root_folder, root_hint
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.image_header import Header
from deeplabx.dataset.label_file import RawLabel
from deeplabx.dataset.labels import LabelMap, voc_palette
from deeplabx.dataset.listing import Names, contents, lines_of, listed_names, nfc, refuse_two_of_a_name
from deeplabx.dataset.mat_file import matrix_of
from deeplabx.errors import DataError, listed

# In alphabetical order, as the ids of SegmentationClassContext are. 59_labels.txt has the same names in
# another order: issue 3021 of mmsegmentation.
CLASSES = [
    "aeroplane",
    "bag",
    "bed",
    "bedclothes",
    "bench",
    "bicycle",
    "bird",
    "boat",
    "book",
    "bottle",
    "building",
    "bus",
    "cabinet",
    "car",
    "cat",
    "ceiling",
    "chair",
    "cloth",
    "computer",
    "cow",
    "cup",
    "curtain",
    "dog",
    "door",
    "fence",
    "floor",
    "flower",
    "food",
    "grass",
    "ground",
    "horse",
    "keyboard",
    "light",
    "motorbike",
    "mountain",
    "mouse",
    "person",
    "plate",
    "platform",
    "pottedplant",
    "road",
    "rock",
    "sheep",
    "shelves",
    "sidewalk",
    "sign",
    "sky",
    "snow",
    "sofa",
    "table",
    "track",
    "train",
    "tree",
    "truck",
    "tvmonitor",
    "wall",
    "water",
    "window",
    "wood",
]
BACKGROUND = "background"
PALETTE = voc_palette(len(CLASSES) + 1)  # that of the background first; no colours are published
SPLITS = ("train", "val")
LISTS = ("ImageSets/SegmentationContext", "ImageSets/Main")  # the second: VOC 2010's own, which are the same
PNG_FOLDER, MAT_FOLDER = "SegmentationClassContext", "trainval"
NAMES_OF_IDS, NAMES_OF_CLASSES = "labels.txt", "59_labels.txt"
HOW_TO_GET = (
    "download VOCtrainval_03-May-2010.tar (host.robots.ox.ac.uk/pascal/VOC/voc2010), and trainval.tar.gz "
    "with labels.txt and 59_labels.txt\n(cs.stanford.edu/~roozbeh/pascal-context) into VOC2010; then set "
    "dataset.root=PATH"
)


class PascalContext(LabelledFiles):
    """`root` is VOC2010, or holds VOCdevkit/VOC2010. Labels are SegmentationClassContext/*.png (0 background,
    1 to 59 in alphabetical order), or the original trainval/*.mat with labels.txt and 59_labels.txt.

    background: whether it is a class of its own, the first of 60.
    """

    classes = CLASSES
    palette = PALETTE[1:]

    def __init__(self, *, root: str | None, split: str, background: bool = False) -> None:
        base = root_folder(root, name="pascal_context", how_to_get=HOW_TO_GET)
        if split not in SPLITS:
            raise DataError(f"dataset split {split} is not a split of Pascal-Context: {', '.join(SPLITS)}")
        year = year_folder(base)
        if year is None:
            raise DataError(
                f"dataset.root={root} must contain JPEGImages/ and {PNG_FOLDER}/ or {MAT_FOLDER}/, but "
                f"{contents(base)}",
                hint=root_hint(base, lambda path: year_folder(path) is not None, how_to_get=HOW_TO_GET),
            )
        if background:
            self.classes, self.palette = [BACKGROUND, *CLASSES], PALETTE
        as_png = (year / PNG_FOLDER).is_dir()
        by_raw = {0: -1, **{index + 1: index for index in range(len(CLASSES))}} if as_png else by_raw_id(year)
        rest = 0 if background else IGNORE_INDEX
        label_map = {raw: rest if index < 0 else index + int(background) for raw, index in by_raw.items()}
        folder, suffix = (PNG_FOLDER, ".png") if as_png else (MAT_FOLDER, ".mat")
        names, files = [nfc(name) for name in listed_names(split_list(year, split))], Names()
        pairs: Pairs = [
            (files.path(year, f"JPEGImages/{name}.jpg"), files.path(year, f"{folder}/{name}{suffix}"))
            for name in names
        ]
        refuse_two_of_a_name(image for image, _ in pairs)
        pairs = complete(pairs, where=f"{year}, split {split}", hint=HOW_TO_GET)
        super().__init__(pairs, label_map=LabelMap(label_map))
        self.folder = year

    def read_raw(self, path: Path) -> RawLabel:
        if path.suffix != ".mat":
            return super().read_raw(path)
        return RawLabel(matrix_of(path, ("LabelMap",), what="one of Pascal-Context's label files"))

    def label_header(self, path: Path) -> Header | None:
        return None if path.suffix == ".mat" else header_of(path, mask=True)


def year_folder(base: Path) -> Path | None:
    """The VOC2010 folder at or below `dataset.root`."""
    for folder in (base, base / "VOC2010", base / "VOCdevkit" / "VOC2010"):
        labels = any((folder / name).is_dir() for name in (PNG_FOLDER, MAT_FOLDER))
        if labels and (folder / "JPEGImages").is_dir():
            return folder
    return None


def split_list(year: Path, split: str) -> Path:
    found = next((path for name in LISTS if (path := year / name / f"{split}.txt").is_file()), None)
    if found is None:
        raise DataError(
            f"{year} has no list of split {split}: looked for {LISTS[0]}/{split}.txt and "
            f"{LISTS[1]}/{split}.txt",
            hint=HOW_TO_GET,
        )
    return found


def by_raw_id(year: Path) -> dict[int, int]:
    """The class of each of the 459 ids, -1 for background, from the distribution's own lists of names."""
    of_ids, of_classes = (names_in(year, name) for name in (NAMES_OF_IDS, NAMES_OF_CLASSES))
    if sorted(of_classes.values()) != sorted(CLASSES):
        other = sorted(set(of_classes.values()) ^ set(CLASSES))
        raise DataError(
            f"{year / NAMES_OF_CLASSES} does not have the {len(CLASSES)} classes of Pascal-Context: "
            f"{listed(other)}",
            hint=HOW_TO_GET,
        )
    lacking = sorted(set(CLASSES) - set(of_ids.values()))
    if lacking:
        raise DataError(f"{year / NAMES_OF_IDS} has no {listed(lacking)}", hint=HOW_TO_GET)
    index_of = {name: index for index, name in enumerate(CLASSES)}
    return {0: -1, **{raw: index_of.get(name, -1) for raw, name in of_ids.items()}}


def names_in(year: Path, name: str) -> dict[int, str]:
    """The names by id in a file of lines such as `415: track`; it lies in VOC2010 or in trainval."""
    places = [year / name, year / MAT_FOLDER / name, year.parent / name]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"{places[0]} is missing: it says what the ids in {MAT_FOLDER}/ mean", hint=HOW_TO_GET
        )
    found: dict[int, str] = {}
    for line in lines_of(path):
        match = re.fullmatch(r"(\d{1,5})\s*:\s*(.*\S)", line, re.ASCII)
        if match is None or int(match[1]) in found:
            raise DataError(f"{path}: {line[:60]!r} is not a line such as `2: aeroplane`, each id once")
        found[int(match[1])] = match[2].replace(" ", "")
    return found
