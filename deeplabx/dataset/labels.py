"""Raw label ids and colours to train ids."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from deeplabx.dataset.contract import Colour, Palette
from deeplabx.errors import DataError

UNKNOWN = 254  # marks a raw value that is not in the map
MAX_CLASSES = 254


class LabelMap:
    """Train ids by raw id (int), or by colour. Calling it on a raw label checks every pixel with one table
    lookup.
    """

    def __init__(self, train_ids: Mapping[Any, int], *, hint: str = "") -> None:
        self.hint = hint  # how to declare a raw value that is not in the map
        self.by_colour = any(isinstance(raw, tuple) for raw in train_ids)
        self.known = {
            packed(raw) if isinstance(raw, tuple) else raw: train_id for raw, train_id in train_ids.items()
        }
        size = 1 << 24 if self.by_colour else max(256, max(self.known, default=0) + 1)
        self.table = np.full(size + 1, UNKNOWN, np.uint8)  # the last entry: everything beyond
        for raw, train_id in self.known.items():
            self.table[raw] = train_id

    def __call__(self, raw: np.ndarray, *, path: object) -> np.ndarray:
        """uint8 H x W of train ids from raw ids H x W, or from colours H x W x 3.

        Raises DataError naming file, value and pixel for the first raw value that is not in the map.
        """
        if self.by_colour:
            # Red, green, blue from the highest bits down.
            raw = cv2.cvtColor(raw, cv2.COLOR_RGB2BGRA).view("<u4")[..., 0] & 0xFFFFFF
            ids = self.table[raw]
        elif raw.dtype == np.uint8:
            ids = np.asarray(cv2.LUT(raw, self.table[:256]))
        else:
            ids = self.table[np.where((raw < 0) | (raw >= len(self.table)), len(self.table) - 1, raw)]
        unknown = ids == UNKNOWN
        if unknown.any():
            raise self.unknown_value(raw, unknown, path=path)
        return ids

    def unknown_value(self, raw: np.ndarray, unknown: np.ndarray, *, path: object) -> DataError:
        row, column = np.argwhere(unknown)[0]
        kind = "colour" if self.by_colour else "id"
        others = [self.shown(int(value)) for value in np.unique(raw[unknown])[:8]]
        return DataError(
            f"{path}: {kind} {self.shown(int(raw[row, column]))} at row {row}, column {column} is neither a "
            f"class nor void ({int(unknown.sum())} such pixels: {', '.join(others)})",
            hint=f"known {kind}s: {', '.join(self.shown(raw) for raw in sorted(self.known))}\n{self.hint}",
        )

    def shown(self, raw: int) -> str:
        return str((raw >> 16, raw >> 8 & 255, raw & 255)) if self.by_colour else str(raw)


def packed(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def voc_palette(count: int) -> Palette:
    """The colours of Pascal VOC's development kit: the bits of an id spread over red, green and blue, highest
    bit first.
    """
    palette: Palette = []
    for index in range(count):
        red = green = blue = 0
        for place in range(8):
            bits = index >> 3 * place
            red |= (bits & 1) << 7 - place
            green |= (bits >> 1 & 1) << 7 - place
            blue |= (bits >> 2 & 1) << 7 - place
        palette.append((red, green, blue))
    return palette
