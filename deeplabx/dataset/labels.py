"""Raw label ids and colours to train ids."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import cv2
import numpy as np

from deeplabx.dataset.contract import IGNORE_INDEX, Colour, Palette, label_dtype
from deeplabx.errors import DataError, listed

MAX_CLASSES = 1000
MOST_LISTED = 40  # known values in a hint


class LabelMap:
    """Train ids by raw id (int, up to 65535), or by colour. Calling it on a raw label checks every pixel with
    one table lookup. ignore_index: of the data set; it says whether labels are uint8 or uint16.
    """

    def __init__(
        self,
        train_ids: Mapping[Any, int],
        *,
        ignore_index: int = IGNORE_INDEX,
        hint: Callable[[list[int | Colour]], str] | None = None,
    ) -> None:
        self.hint = hint  # how to declare raw values that are not in the map
        self.by_colour = any(isinstance(raw, tuple) for raw in train_ids)
        self.known = {
            packed(raw) if isinstance(raw, tuple) else raw: train_id for raw, train_id in train_ids.items()
        }
        dtype = label_dtype(ignore_index)
        # Marks a raw value that is not in the map: the largest label that is no train id.
        self.unknown = max(set(range(np.iinfo(dtype).max + 1)) - set(train_ids.values()))
        size = 1 << 24 if self.by_colour else max(1 << 16, max(self.known, default=0) + 1)
        self.table = np.full(size + 1, self.unknown, dtype)  # the last entry: everything beyond
        for raw, train_id in self.known.items():
            self.table[raw] = train_id

    def __call__(self, raw: np.ndarray, *, path: object) -> np.ndarray:
        """H x W of train ids from raw ids H x W (uint8, or wider), or from colours H x W x 3.

        Raises DataError naming file, value and pixel for the first raw value that is not in the map.
        """
        if self.by_colour:
            # Red, green, blue from the highest bits down.
            raw = cv2.cvtColor(raw, cv2.COLOR_RGB2BGRA).view("<u4")[..., 0] & 0xFFFFFF
            ids = self.table[raw]
        elif raw.dtype == np.uint8:
            ids = np.asarray(cv2.LUT(raw, self.table[:256]))
        else:
            beyond = len(self.table) - 1
            within = raw if raw.dtype == np.uint16 else np.where(raw < 0, beyond, raw)
            ids = self.table.take(within, mode="clip")  # half the time of self.table[within]
        unknown = ids == self.unknown
        if unknown.any():
            raise self.unknown_value(raw, unknown, path=path)
        return ids

    def unknown_value(self, raw: np.ndarray, unknown: np.ndarray, *, path: object) -> DataError:
        row, column = np.argwhere(unknown)[0]
        kind = "colour" if self.by_colour else "id"
        values = [int(value) for value in np.unique(raw[unknown])]
        others = [self.shown(value) for value in values[:8]]
        known = f"known {kind}s: {listed(map(self.shown, sorted(self.known)), MOST_LISTED)}"
        how = (
            self.hint([unpacked(value) if self.by_colour else value for value in values]) if self.hint else ""
        )
        return DataError(
            f"{path}: {kind} {self.shown(int(raw[row, column]))} at row {row}, column {column} is neither a "
            f"class nor void ({int(unknown.sum())} such pixels: {', '.join(others)})",
            hint=f"{known}\n{how}",
            kind="unknown_value",
        )

    def shown(self, raw: int) -> str:
        return str(unpacked(raw)) if self.by_colour else str(raw)


def packed(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def unpacked(colour: int) -> Colour:
    return colour >> 16, colour >> 8 & 255, colour & 255


def runs(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last id of each run of consecutive ids, in order."""
    for _, pairs in groupby(enumerate(sorted(ids)), key=lambda pair: pair[1] - pair[0]):
        run = [raw for _, raw in pairs]
        yield run[0], run[-1]


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
