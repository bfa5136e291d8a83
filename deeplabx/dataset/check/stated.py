"""What a data set states about the values in its masks."""

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
    def of(cls, files: LabelledFiles, *, names: list[str]) -> "Stated":
        """names: in place of the classes where the table of classes could not be read whole."""
        known = files.label_map
        return cls(
            tuple(files.classes or names), files.palette, known.known, known.by_colour, files.ignore_index
        )

    @property
    def lower(self) -> tuple[str, ...]:
        return tuple(name.lower() for name in self.names)

    def void(self) -> set[int]:
        return {raw for raw, train_id in self.train_ids.items() if train_id == self.ignore_index}

    def shown(self, raw: int) -> int | Colour:
        return unpacked(raw) if self.by_colour else raw
