"""A data set whose unreadable samples raise an error or are skipped, as `dataset.on_bad` says."""

from collections.abc import Callable
from typing import Any

import numpy as np

from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.listing import leads_out
from deeplabx.errors import ConfigError, DataError, printable

LONGEST_PATH = 300  # characters of a path in a message


class ReadableSet(SegmentationSet):
    """`samples`, read with `read` and `read_label`: the one place where unreadable files are skipped.

    skip_unreadable: both return None for a sample that cannot be read and keep its error for `take_errors`;
    otherwise they raise its DataError.
    """

    def __init__(self, samples: SegmentationSet, *, skip_unreadable: bool = False, split: str = "") -> None:
        self.samples, self.skip_unreadable, self.split = samples, skip_unreadable, split
        self.classes, self.palette, self.ignore_index = samples.classes, samples.palette, samples.ignore_index
        self.note, self.channels, self.statistics = samples.note, samples.channels, samples.statistics
        self.left_out = samples.left_out
        self.errors: list[str] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        image, label = self.samples[index]
        self.refuse_other(image, index, what="image", dtype=np.dtype(np.uint8))
        self.refuse_other_label(label, index)
        if image.shape != (*label.shape, self.channels):
            raise ConfigError(
                f"image {index} of {self.name} is {image.shape} and its label {label.shape}: the image must "
                f"be H x W x {self.channels}, the label H x W"
            )
        return Sample(image, label)

    def label(self, index: int) -> np.ndarray:
        label = self.samples.label(index)
        self.refuse_other_label(label, index)
        return label

    def read(self, index: int) -> Sample | None:
        try:
            return self[index]
        except DataError as error:
            self.skip(error)
            return None

    def read_label(self, index: int) -> np.ndarray | None:
        try:
            return self.label(index)
        except DataError as error:
            self.skip(error)
            return None

    @property
    def name(self) -> str:
        return type(self.samples).__name__

    @property
    def of_labels(self) -> str:
        return (
            f"labels are uint8 with an ignore_index up to 255, else uint16; {self.name} has "
            f"{len(self.classes)} classes and ignore_index={self.ignore_index}"
        )

    def refuse_other(self, array: object, index: int, *, what: str, dtype: np.dtype) -> None:
        """Raise ConfigError for an image or label that is not an array of `dtype`."""
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ConfigError(
                f"image {index} of {self.name}: its {what} is {kind}, but must be a {dtype} array",
                hint=self.of_labels if what == "label" else "",
            )

    def refuse_other_label(self, label: np.ndarray, index: int) -> None:
        """Raise ConfigError for a label with an id that is no class. Ids from files are checked as they are
        read.
        """
        self.refuse_other(label, index, what="label", dtype=self.label_dtype)
        if isinstance(self.samples, LabelledFiles):
            return
        counts = np.bincount(label.ravel(), minlength=self.ignore_index + 1)
        counts[self.ignore_index] = 0
        if counts[len(self.classes) :].any():
            wrong = len(self.classes) + int(counts[len(self.classes) :].argmax())
            raise ConfigError(
                f"image {index} of {self.name}: its label contains {wrong}, but must be below "
                f"{len(self.classes)} or {self.ignore_index} (ignored)"
            )

    def skip(self, error: DataError) -> None:
        if not self.skip_unreadable:
            raise error
        self.errors.append(error.message)

    def take_errors(self) -> list[str]:
        """The error messages of the samples skipped since the last call."""
        errors, self.errors = self.errors, []
        return errors


def opened_split(
    builder: Callable[..., SegmentationSet], *, split: str, skip_unreadable: bool = False, **settings: Any
) -> ReadableSet:
    """One split of the data set that `builder` creates from its settings, such as root.

    Raises DataError when its files are not as expected.
    """
    if leads_out(split):
        raise ConfigError(f"dataset split {split!r} leads out of dataset.root")
    try:
        return ReadableSet(builder(split=split, **settings), skip_unreadable=skip_unreadable, split=split)
    except OSError as error:  # no permission to read, a name too long, a link to itself
        raise DataError(f"{printable(str(error.filename), LONGEST_PATH)}: {error.strerror}") from None
