"""What a data set states about the values in its masks."""

from collections.abc import Sequence
from dataclasses import dataclass

from deeplabx.dataset.contract import Colour, Palette
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.labels import unpacked


@dataclass(frozen=True)
class Stated:
    """names: of the classes, none where they are not known. train_ids: by raw id, or by packed colour."""

    names: tuple[str, ...]
    palette: Palette
    train_ids: dict[int, int]
    by_colour: bool
    ignore_index: int

    @classmethod
    def of(cls, files: LabelledFiles, *, classes: tuple[Sequence[str], Palette]) -> "Stated":
        """classes: names and colours, in place of the data set's where it could not read its table whole."""
        known = files.label_map
        names, palette = (files.classes, files.palette) if files.classes else classes
        return cls(tuple(names), palette, known.known, known.by_colour, files.ignore_index)

    @property
    def lower(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self.names)

    def void(self) -> set[int]:
        return {raw for raw, train_id in self.train_ids.items() if train_id == self.ignore_index}

    @property
    def in_order(self) -> bool:
        """Whether the ids are the train ids, so that other ids may be shifted or scaled; not where a
        label_map says of each id what it is.
        """
        ids = {raw: train_id for raw, train_id in self.train_ids.items() if train_id != self.ignore_index}
        return not self.by_colour and (not ids or ids == dict(enumerate(range(len(self.names)))))

    @property
    def meaning(self) -> dict[int, str]:
        """A class name, or `ignore`, by raw value."""
        void = self.ignore_index
        return {raw: "ignore" if one == void else self.names[one] for raw, one in self.train_ids.items()}

    def shown(self, raw: int) -> int | Colour:
        return unpacked(raw) if self.by_colour else raw
