"""What a run's weights depend on in the files of a data set: which images there are, and which raw value
means which class.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset.drawn import DrawnFiles
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.labels import runs
from deeplabx.dataset.listing import nfc
from deeplabx.dataset.readable import ReadableSet


class Images(NamedTuple):
    """The images of a split."""

    split: str
    number: int
    sha256: str | None  # of their names, in order; None where images are not files

    @classmethod
    def of(cls, samples: ReadableSet, names: list[str] | None) -> "Images":
        return cls(samples.split, len(samples), None if names is None else sha256_of(names))


class RawValues(NamedTuple):
    """The raw ids ("0 7-9") or colours ("#804080") in label files, or the labels of shapes, as text."""

    of_classes: list[str]  # in the order of the classes
    ignored: str


def image_names(samples: ReadableSet, *, root: str | None) -> list[str] | None:
    """The names of a split's images, in order, relative to the data set's folder; None where images are not
    files.

    They are the same wherever the folder is: on a file system that decomposes accents, and in every locale.
    """
    files = samples.samples
    if not isinstance(files, LabelledFiles):
        return None
    base = files.folder or Path(root or "/")
    start = os.path.join(base, "")  # noqa: PTH118 - a Path drops the slash at the end
    return [normalized(relative(os.fspath(image), start)) for image, _ in files.pairs]


def relative(path: str, start: str) -> str:
    return path.removeprefix(start) if path.startswith(start) else os.path.relpath(path, start)


def normalized(name: str) -> str:
    """The name as UTF-8 has it, composed. In a locale of another encoding, Python reads its bytes
    differently.
    """
    return nfc(os.fsencode(name).decode("utf-8", "surrogateescape"))


def sha256_of(names: Iterable[str]) -> str:
    return hashlib.sha256(b"\0".join(name.encode("utf-8", "surrogateescape") for name in names)).hexdigest()


def raw_values(samples: ReadableSet) -> RawValues | None:
    """The raw values of each class and of void; None where labels are not files."""
    files = samples.samples
    if not isinstance(files, LabelledFiles):
        return None
    if isinstance(files, DrawnFiles):
        return RawValues(
            [files.labels_of(index) for index in range(len(files.classes))], files.labels_of(None)
        )
    label_map = files.label_map
    by_train_id: dict[int, list[int]] = {}
    for raw, train_id in label_map.known.items():
        by_train_id.setdefault(train_id, []).append(raw)
    words = {
        train_id: " ".join(f"#{raw:06x}" for raw in sorted(found)) if label_map.by_colour else ranges(found)
        for train_id, found in by_train_id.items()
    }
    return RawValues(
        [words.get(index, "") for index in range(len(samples.classes))], words.get(samples.ignore_index, "")
    )


def ranges(ids: list[int]) -> str:
    """0, 7, 8, 9 as "0 7-9"."""
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs(ids))
