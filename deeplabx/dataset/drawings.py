"""Shapes on images: polygons, run lengths and circles with a class each, kept in few bytes of memory."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from deeplabx.dataset.contract import label_dtype
from deeplabx.dataset.fill import FARTHEST, LONGEST_OUTLINE, SCALE, filled, on_grid, outline_length
from deeplabx.dataset.rle import decompressed, inside
from deeplabx.errors import quoted

RINGS_16, RINGS_32, COUNTS, LETTERS, CIRCLE = range(5)
DTYPES = {RINGS_16: np.int16, RINGS_32: np.int32, COUNTS: np.int32, CIRCLE: np.float64}
MOST_PIXELS = 300_000_000  # of an image


class Shape(NamedTuple):
    """One of these kinds, as bytes."""

    kind: int
    content: bytes


# --- shapes from the numbers in a file: each raises ValueError ----------------------------------------------


def polygon(rings: Sequence[object]) -> Shape:
    """One shape of several rings, each a list of numbers x, y, x, y, ... in pixels."""
    parts = [on_grid(ring_of(ring)) for ring in rings]
    if not parts:
        raise ValueError("a polygon without corners")
    lengths = [part.size for part in parts]
    lowest, highest = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    may_be_long = sum(lengths) * (highest - lowest) > SCALE * LONGEST_OUTLINE
    if may_be_long and sum(outline_length(part) for part in parts) > SCALE * LONGEST_OUTLINE:
        raise ValueError(f"an outline of more than {LONGEST_OUTLINE:,} pixels")
    small = lowest >= -(1 << 15) and max(highest, len(parts), *lengths) < 1 << 15
    kind = RINGS_16 if small else RINGS_32
    head = np.array([len(parts), *lengths], DTYPES[kind]).tobytes()
    return Shape(kind, head + b"".join(part.astype(DTYPES[kind]).tobytes() for part in parts))


def ring_of(numbers: object) -> np.ndarray:
    if not isinstance(numbers, list):
        raise ValueError(f"a polygon is a list of lists of numbers, but holds {quoted(numbers)}")
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(
            f"a polygon of {len(numbers)} numbers; it has an x and a y for each of three corners or more"
        )
    return coordinates(numbers)


def coordinates(numbers: list[object]) -> np.ndarray:
    """float64 of finite numbers within FARTHEST."""
    try:
        # np.array would take the text "6" for a number.
        found = np.frombuffer(array("d", cast(list[float], numbers)))
    except (TypeError, OverflowError):
        wrong = next(
            (one for one in numbers if isinstance(one, bool) or not isinstance(one, int | float)), numbers
        )
        raise ValueError(f"a coordinate that is not a number: {quoted(wrong)}") from None
    if not np.abs(found).max(initial=0) <= FARTHEST:  # nor is what is not a number
        raise ValueError(f"a coordinate that is not within {FARTHEST:,.0f} pixels")
    return found


def run_lengths(counts: object, size: tuple[int, int]) -> Shape:
    """COCO's run lengths, a list or its text, of an image of `size` (height, width)."""
    if isinstance(counts, str):
        if not counts.isascii():
            raise ValueError("run lengths that are not ASCII")
        shape = Shape(LETTERS, counts.encode("ascii"))
    elif isinstance(counts, list):
        found = np.array(counts) if all(type(one) is int and 0 <= one < 1 << 31 for one in counts) else None
        if found is None:
            raise ValueError("run lengths that are not whole numbers from 0")
        shape = Shape(COUNTS, found.astype(np.int32).tobytes())
    else:
        raise ValueError(f"counts must be a list or a text, not {quoted(counts)}")
    total = int(counts_of(shape).sum())
    if total != size[0] * size[1] or counts_of(shape).min(initial=0) < 0:
        raise ValueError(f"run lengths of {total} pixels for an image of {size[1]} x {size[0]}")
    return shape


def mask(pixels: np.ndarray, *, left: int, top: int, size: tuple[int, int]) -> Shape:
    """bool pixels at a place in an image of `size` (height, width); what is outside of it is cut off."""
    whole = np.zeros(size, bool)
    rows, columns = (max(0, start) for start in (top, left))
    part = pixels[rows - top :, columns - left :][: max(0, size[0] - rows), : max(0, size[1] - columns)]
    whole[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part
    down = whole.ravel(order="F")
    changes = np.flatnonzero(down[1:] != down[:-1]) + 1
    bounds = np.concatenate([[0] if down[0] else [], [0], changes, [down.size]]).astype(np.int64)
    return Shape(COUNTS, np.diff(bounds).astype(np.int32).tobytes())


def circle(centre: np.ndarray, edge: np.ndarray) -> Shape:
    """Through the point `edge`, in pixels: the pixels whose middle is within it."""
    return Shape(CIRCLE, np.array([*centre, np.hypot(*(edge - centre))], np.float64).tobytes())


# --- drawing ------------------------------------------------------------------------------------------------


def counts_of(shape: Shape) -> np.ndarray:
    if shape.kind == LETTERS:
        return decompressed(shape.content)
    return np.frombuffer(shape.content, np.int32).astype(np.int64)


def draw(ids: np.ndarray, shape: Shape, class_id: int) -> None:
    """Set the pixels of a shape in ids, width x height: column by column."""
    width, height = ids.shape
    if shape.kind in (COUNTS, LETTERS):
        ids[inside(counts_of(shape), height=height, width=width)] = class_id
        return
    if shape.kind == CIRCLE:
        x, y, radius = np.frombuffer(shape.content, np.float64)
        columns, rows = np.ogrid[:width, :height]
        ids[(columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2] = class_id
        return
    packed = np.frombuffer(shape.content, DTYPES[shape.kind])
    start = 1 + int(packed[0])
    for size in packed[1:start].tolist():
        columns_inside = filled(packed[start : start + size], height=height, width=width)
        if columns_inside is not None:
            first, pixels = columns_inside
            ids[first : first + len(pixels)][pixels] = class_id
        start += size


class Drawings:
    """The shapes on some images. A shape covers those before it where they overlap."""

    def __init__(self) -> None:
        self.sizes = array("q")  # height and width by turns
        self.owners = array("q")  # of each shape: its image
        self.class_ids = array("q")
        self.kinds = bytearray()
        self.ends = array("q")  # of each shape in content
        self.content = bytearray()

    def add_image(self, *, height: int, width: int) -> int:
        """Its index."""
        self.sizes.extend((height, width))
        return len(self.sizes) // 2 - 1

    def add(self, image: int, class_id: int, shape: Shape) -> None:
        """image, class_id: numbers of the caller's, which `ImageShapes` gets translated."""
        self.owners.append(image)
        self.class_ids.append(class_id)
        self.kinds.append(shape.kind)
        self.content += shape.content
        self.ends.append(len(self.content))


class ImageShapes:
    """The shapes of some images of `Drawings`, by image: a few arrays, which processes share after a fork."""

    def __init__(
        self, drawings: Drawings, images: Sequence[int], *, owners: np.ndarray, class_ids: np.ndarray
    ) -> None:
        """owners: the image of each shape; class_ids: its train id. Below 0: it is not drawn."""
        sizes = np.array(drawings.sizes, np.int64).reshape(-1, 2)
        index_of = np.full(len(sizes) + 1, -1, np.int64)  # the last: of shapes that belong to none
        index_of[list(images)] = np.arange(len(images))
        image = index_of[np.where(owners < 0, len(sizes), owners)]
        kept = np.flatnonzero((image >= 0) & (class_ids >= 0))
        kept = kept[np.argsort(image[kept], kind="stable")]
        self.sizes = sizes[list(images)]
        self.first = np.searchsorted(image[kept], np.arange(len(images) + 1))
        self.class_ids = class_ids[kept].astype(np.uint16)
        self.kinds = np.frombuffer(bytes(drawings.kinds), np.uint8)[kept]
        ends = np.array(drawings.ends, np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        view = memoryview(drawings.content)
        bounds = zip(starts[kept].tolist(), ends[kept].tolist(), strict=True)
        self.content = np.frombuffer(b"".join(view[start:end] for start, end in bounds), np.uint8)
        self.ends = np.cumsum((ends - starts)[kept])

    def __len__(self) -> int:
        return len(self.sizes)

    def size(self, image: int) -> tuple[int, int]:
        """Height, width."""
        height, width = self.sizes[image].tolist()
        return height, width

    def shapes(self, image: int) -> int:
        """Their number."""
        return int(self.first[image + 1] - self.first[image])

    def ids(self, image: int, *, unlabelled: int, ignore_index: int) -> np.ndarray:
        """Train ids H x W; `unlabelled` outside all shapes."""
        height, width = self.size(image)
        ids = np.full((width, height), unlabelled, label_dtype(ignore_index))
        for number in range(int(self.first[image]), int(self.first[image + 1])):
            start = int(self.ends[number - 1]) if number else 0
            content = self.content[start : int(self.ends[number])].tobytes()
            draw(ids, Shape(int(self.kinds[number]), content), int(self.class_ids[number]))
        return np.ascontiguousarray(ids.T)
