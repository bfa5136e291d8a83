"""The base of data sets that consist of image and label files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.image_header import Header
from deeplabx.dataset.label_file import RawLabel, read_pair, read_raw
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.problems import report
from deeplabx.errors import DataError

Pairs = list[tuple[Path, Path]]


class LabelledFiles(SegmentationSet):
    """One split as pairs of image and label files. Raw ids are checked as they are read.

    image_channels: dataset.channels, the indices of an image's channels that are used; None for files of
    three. mask_alpha: dataset.mask_alpha, what transparent pixels of a label are.
    """

    image_channels: Sequence[int] | None = None
    mask_alpha: str = "refuse"
    folder: Path | None = None  # that the names of images are relative to; None: dataset.root
    group_pattern: str | None = None  # finds in an image's path which images belong together
    group_folder: Path | None = None  # that this path is relative to; None: the whole path is searched

    def __init__(self, pairs: Pairs, *, label_map: LabelMap) -> None:
        self.pairs, self.label_map = pairs, label_map

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_path, label_path = self.pairs[index]
        image, raw = read_pair(image_path, label_path, read=self.read_raw, channels=self.image_channels)
        return Sample(image, self.train_ids(raw, path=label_path))

    def label(self, index: int) -> np.ndarray:
        """The label alone, H x W of train ids as stored; the image is not read."""
        _, path = self.pairs[index]
        return self.train_ids(self.read_raw(path), path=path)

    def read_raw(self, path: Path) -> RawLabel:
        by_colour = self.label_map.by_colour
        return read_raw(path, colours=by_colour, white=self.white, alpha=self.mask_alpha)

    def label_header(self, path: Path) -> Header | None:
        """The header of a label; None for one that is not an image file, or that a subclass reads itself."""
        return header_of(path, mask=True) if type(self).read_raw is LabelledFiles.read_raw else None

    @property
    def has_own_reader(self) -> bool:
        """Whether a subclass reads its samples itself, as a plug-in for images of another format does: no
        header and no `image_channels` says what it makes of them.
        """
        return type(self).__getitem__ is not LabelledFiles.__getitem__

    @property
    def white(self) -> int | None:
        """Which id the white of a one-bit label is: 1 or 255, whichever is known; None if both are."""
        one, white = (raw in self.label_map.known for raw in (1, 255))
        return (None if one else 255) if white else 1

    def train_ids(self, raw: RawLabel, *, path: Path) -> np.ndarray:
        try:
            ids = self.label_map(raw.values, path=path)
        except DataError as error:
            if raw.bits >= 8:
                raise
            bits = "1 bit" if raw.bits == 1 else f"{raw.bits} bits"
            raise DataError(
                f"{error.message}; the file has {bits} per pixel, so its ids are 0 to {2**raw.bits - 1}",
                hint=error.hint,
                kind=error.kind,
            ) from None
        if raw.void is not None:
            ids[raw.void] = self.ignore_index
        return ids


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


def root_hint(base: Path, is_root: Callable[[Path], bool], *, how_to_get: str) -> str:
    """Where `dataset.root` is a few levels off, the folder that is meant; else how to get the data set."""
    below = folders_in(base)
    near = [*below, *(path for folder in below for path in folders_in(folder)), *base.absolute().parents[:3]]
    found = next((path for path in near if is_root(path)), None)
    return f"set dataset.root={found}" if found else how_to_get


def folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # only a hint needs it
        return []


def complete(pairs: Pairs, *, where: object, hint: str) -> Pairs:
    """The pairs whose two files exist. Reports a DataError with the number of missing files, and the first;
    raises one if there are no pairs at all.
    """
    if not pairs:
        raise DataError(f"{where} contains no images", hint=hint)
    for position in range(2):
        pairs = with_files(pairs, position, where=where, hint=hint)
    return pairs


def with_files(pairs: Pairs, position: int, *, where: object, hint: str) -> Pairs:
    """The pairs whose image (position 0) or label (1) exists. Reports a DataError as `complete` does."""
    lacking = [pair[position] for pair in pairs if not pair[position].is_file()]
    if not lacking:
        return pairs
    kind = ("image", "label")[position]
    report(
        MissingFilesError(
            f"{len(lacking)} of {len(pairs)} images of {where} have no {kind} file, the first: {lacking[0]}",
            hint=hint,
            files=lacking,
        )
    )
    return [pair for pair in pairs if pair[position].is_file()]


class MissingFilesError(DataError):
    """Images or labels of a split that do not exist."""

    def __init__(self, message: str, *, hint: str = "", files: Sequence[Path] = ()) -> None:
        super().__init__(message, hint=hint, kind="missing_file")
        self.files = files
