"""The base of data sets that consist of image and label files."""

from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.label_file import read_label, read_pair
from deeplabx.dataset.labels import LabelMap
from deeplabx.errors import DataError

Pairs = list[tuple[Path, Path]]


class LabelledFiles(SegmentationSet):
    """One split as pairs of image and label files. Raw ids are checked as they are read."""

    folder: Path | None = None  # that the names of images are relative to; None: dataset.root

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
