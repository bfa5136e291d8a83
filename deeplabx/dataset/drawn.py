"""The base of data sets whose labels are shapes drawn on images, not image files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deeplabx.dataset.drawings import ImageShapes
from deeplabx.dataset.files import LabelledFiles, Pairs
from deeplabx.dataset.image_header import Header
from deeplabx.dataset.label_file import RawLabel
from deeplabx.dataset.label_names import LabelNames
from deeplabx.dataset.labels import LabelMap
from deeplabx.errors import DataError, printable


class DrawnFiles(LabelledFiles):
    """pairs: of an image file and the path that its label is called by, in messages and as the key to it;
    shapes: those of each pair.
    """

    def __init__(
        self,
        pairs: Pairs,
        shapes: ImageShapes,
        names: LabelNames,
        *,
        errors: Mapping[Path, DataError] | None = None,
    ) -> None:
        """errors: of labels that cannot be read."""
        ids = {index: index for index in range(len(names.names))}
        label_map = LabelMap({**ids, names.ignore_index: names.ignore_index}, ignore_index=names.ignore_index)
        super().__init__(pairs, label_map=label_map)
        self.classes, self.palette, self.ignore_index = names.names, names.palette, names.ignore_index
        self.shapes, self.unlabelled, self.by_label = shapes, names.unlabelled, names.by_label
        self.errors = errors or {}
        self.index_of = {label: index for index, (_, label) in enumerate(pairs)}

    def place(self, path: Path) -> int:
        """The index of a label's shapes. Raises the DataError of one that cannot be read."""
        if path in self.errors:
            raise self.errors[path]
        return self.index_of[path]

    def read_raw(self, path: Path) -> RawLabel:
        ids = self.shapes.ids(self.place(path), unlabelled=self.unlabelled, ignore_index=self.ignore_index)
        return RawLabel(ids, bits=8 * ids.itemsize)

    def label_header(self, path: Path) -> Header | None:
        height, width = self.shapes.size(self.place(path))
        return Header("drawn", "P", (width, height))

    def labels_of(self, train_id: int | None) -> str:
        """The labels that are a class, or that are ignored (None), as text."""
        train_id = self.ignore_index if train_id is None else train_id
        found = sorted(label for label, known in self.by_label.items() if known == train_id)
        return ", ".join([*found, *(["what is not labelled"] if self.unlabelled == train_id else [])])

    def words_of_empty(self) -> list[str]:
        """A line where images have no shape at all."""
        empty = [
            image
            for (image, label), count in zip(self.pairs, np.diff(self.shapes.first).tolist(), strict=True)
            if not count and label not in self.errors
        ]
        if not empty:
            return []
        ignored = self.unlabelled == self.ignore_index
        what = "ignored" if ignored else self.classes[self.unlabelled]
        return [
            printable(
                f"{len(empty)} of {len(self.pairs)} images have no labelled shape: all of it is {what}; the "
                f"first: {empty[0]}"
            )
        ]


def words_of_classes(names: LabelNames, found: Sequence[str], where: object) -> str:
    """Which classes were taken from the labels themselves."""
    return printable(f"no classes.yaml: the classes are the labels in {where}: {', '.join(found)[:400]}")
