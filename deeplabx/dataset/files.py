"""The base of data sets that consist of image and label files."""

import os
from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.io import IMAGE_SUFFIXES, read_label, read_pair
from deeplabx.dataset.labels import LabelMap
from deeplabx.errors import DataError

Pairs = list[tuple[Path, Path]]


class LabelledFiles(SegmentationSet):
    """One split as pairs of image and label files. Raw ids are checked as they are read."""

    def __init__(self, pairs: Pairs, *, label_map: LabelMap) -> None:
        self.pairs, self.label_map = pairs, label_map

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_path, label_path = self.pairs[index]
        image, raw = read_pair(image_path, label_path, read=self.read_raw)
        return Sample(image, self.label_map(raw, path=label_path))

    def label(self, index: int) -> np.ndarray:
        """The label alone, uint8 H x W of train ids; the image is not read."""
        _, path = self.pairs[index]
        return self.label_map(self.read_raw(path), path=path)

    def read_raw(self, path: Path) -> np.ndarray:
        return read_label(path)


def root_folder(root: str | None, *, name: str, how_to_get: str) -> Path:
    """`dataset.root` as an existing folder. Raises DataError that says what the data set is and how to get
    it.
    """
    if root is None:
        raise DataError(
            f"dataset.root is not set: dataset={name} needs a folder of images and labels", hint=how_to_get
        )
    if not Path(root).is_dir():
        raise DataError(f"dataset.root={root}: there is no such folder", hint=how_to_get)
    return Path(root)


def contents(folder: Path) -> str:
    """What a folder contains, for an error message."""
    if not folder.is_dir():
        return "there is no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"it contains {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def files_in(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, following links to folders. Hidden files (._a.jpg) and folders
    (.ipynb_checkpoints) are skipped.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".") and real not in seen]
        seen.add(real)
    return sorted(found)


def images_in(folder: Path) -> list[Path]:
    """Every image below a folder, sorted."""
    return [path for path in files_in(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def lines_of(path: Path) -> list[str]:
    """The non-empty lines of a split's list. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file of names") from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{path} lists no names")
    return lines


def listed_names(path: Path) -> list[str]:
    """The names in a split's list, one per line. Raises DataError for a name that leads out of the data set's
    folder.
    """
    names = lines_of(path)
    for name in names:
        if leads_out(name):
            raise DataError(
                f"{path}: {name!r} leads out of the data set's folder", hint="names are relative, without .."
            )
    return names


def leads_out(name: str) -> bool:
    return "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts


def complete(pairs: Pairs, *, where: object, hint: str) -> Pairs:
    """The pairs, after checking that each file exists. Raises DataError with the number of missing files, and
    the first.
    """
    if not pairs:
        raise DataError(f"{where} contains no images", hint=hint)
    for kind, position in (("image", 0), ("label", 1)):
        lacking = [pair[position] for pair in pairs if not pair[position].is_file()]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(pairs)} images of {where} have no {kind} file, the first: "
                f"{lacking[0]}",
                hint=hint,
            )
    return pairs
