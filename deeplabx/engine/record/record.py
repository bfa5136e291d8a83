"""The record of an evaluation, and its two files: images.npz and predictions.zip."""

import io
import json
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.engine.durable import arriving_file
from deeplabx.engine.record.boundaries import WIDEST
from deeplabx.engine.record.calibration import BINS as CONFIDENCE_BINS
from deeplabx.engine.record.counts import ClassPixels, ImageCounts
from deeplabx.engine.record.details import Details
from deeplabx.engine.record.objects import BINS as OBJECT_BINS
from deeplabx.errors import CheckpointError, quoted

IMAGES, PREDICTIONS = "images.npz", "predictions.zip"
VERSION = 1
SIDE = 512  # pixels: longest side of a kept prediction
MOST_BYTES = 1 << 31  # of all arrays in the file
MOST_OF_PNG = 4 << 20  # bytes of a kept prediction: of 512 x 512 random ids with 16 bits, it has 0.6 million
# What reading a damaged file raises; memory where it claims arrays that are larger than there is.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, OverflowError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error, struct.error, cv2.error),
    *(SyntaxError, tokenize.TokenError),  # of an array's header, which NumPy reads as Python
)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others have errors of their own
MOST_PREDICTIONS = 64 << 20  # bytes that kept predictions may have in all; those of later images are left out


@dataclass(frozen=True)
class Record:
    """What an evaluation keeps. names, sizes, groups: of each image, in the split's order.

    indices: of each image in the data set's split: an image that could not be read has none. groups: what
    images belong together, such as the frames of a video; None where the data set does not say.
    """

    classes: list[str]
    palette: Palette
    ignore_index: int
    dataset: str
    split: str
    step: int
    names: list[str]
    groups: list[str] | None
    indices: np.ndarray  # int64 N
    sizes: np.ndarray  # int64 N x 2: height, width
    counts: ImageCounts
    details: Details | None

    @property
    def class_pixels(self) -> ClassPixels:
        return self.counts.class_pixels()

    def write(self, folder: Path) -> None:
        """Write images.npz, in place of an older one."""
        plain = {
            "version": VERSION,
            **{
                name: getattr(self, name)
                for name in (
                    "classes",
                    "palette",
                    "ignore_index",
                    "dataset",
                    "split",
                    "step",
                    "names",
                    "groups",
                )
            },
        }
        arrays: dict[str, Any] = {
            "record": np.frombuffer(json.dumps(plain).encode(), np.uint8),
            "indices": self.indices,
            "sizes": self.sizes,
            "image": self.counts.image,
            "cell": self.counts.cell,
            "pixels": self.counts.pixels,
        }
        if self.details is not None:
            arrays |= {name: value for name, value in vars(self.details).items() if value is not None}
        with arriving_file(folder / IMAGES) as path, path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The record in the folder of an evaluation. Raises CheckpointError for none, or a damaged one."""
        path = folder / IMAGES
        if not path.is_file():
            raise CheckpointError(
                f"{folder} has no {IMAGES}: it holds no finished evaluation", hint=f"deeplabx eval {folder}"
            )
        try:
            refuse_large(path)
            # Opened here: of a damaged file, NumPy leaves its own open.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls.of_arrays({name: file[name] for name in file.files})
        except DAMAGE as error:
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise CheckpointError(
                f"{path} is damaged: {words}", hint="evaluate again: deeplabx eval RUN"
            ) from None

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> "Record":
        """Raises ValueError, KeyError or TypeError for what no evaluation writes."""
        plain = json.loads(arrays["record"].tobytes())
        if plain["version"] != VERSION:
            raise ValueError(f"version {plain['version']} is not {VERSION}")
        classes, names, groups = plain["classes"], plain["names"], plain["groups"]
        count = len(classes)
        if not 0 < count * count * 8 <= MOST_BYTES:
            raise ValueError(f"it has {count} classes")
        image, cell, pixels = (whole_numbers(arrays, name) for name in ("image", "cell", "pixels"))
        if not (image.ndim == 1 and image.shape == cell.shape == pixels.shape):
            raise ValueError("its matrices differ in length")
        if len(image) and not (
            0 <= image.min() <= image.max() < len(names)
            and 0 <= cell.min() <= cell.max() < count**2
            and pixels.min() > 0
        ):
            raise ValueError("its matrices hold values out of range")
        if np.any(np.diff(image * count**2 + cell) <= 0):
            raise ValueError("its matrices are not in order")
        indices, sizes = (whole_numbers(arrays, name) for name in ("indices", "sizes"))
        if indices.shape != (len(names),) or sizes.shape != (len(names), 2):
            raise ValueError("it has not one index and size for each image")
        if np.any(np.diff(indices) <= 0) or np.any(indices < 0) or np.any(sizes < 1):
            raise ValueError("its indices or sizes are out of range")
        if groups is not None and len(groups) != len(names):
            raise ValueError("it has not one group for each image")
        if len(set(classes)) < count:
            raise ValueError("two of its classes have the same name")
        if len(plain["palette"]) != count:
            raise ValueError("it has not one colour for each class")
        details = details_in(arrays, count) if "boundary" in arrays else None
        return cls(
            classes=[str(name) for name in classes],
            palette=[(int(red), int(green), int(blue)) for red, green, blue in plain["palette"]],
            ignore_index=int(plain["ignore_index"]),
            dataset=str(plain["dataset"]),
            split=str(plain["split"]),
            step=int(plain["step"]),
            names=[str(name) for name in names],
            groups=None if groups is None else [str(one) for one in groups],
            indices=indices,
            sizes=sizes,
            counts=ImageCounts(count, len(names), image, cell, pixels),
            details=details,
        )


def whole_numbers(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """An array of integers as int64. Raises ValueError for another."""
    if arrays[name].dtype.kind not in "iu":
        raise ValueError(f"{name} holds {arrays[name].dtype}, not integers")
    return arrays[name].astype(np.int64)


def details_in(arrays: dict[str, np.ndarray], count: int) -> Details:
    """Of `count` classes. Raises KeyError or ValueError for what no evaluation writes."""
    shapes = {
        "boundary": (count, 2),
        "distance": (WIDEST, count, 3),
        "objects": (count, OBJECT_BINS, 2),
        "calibration": (CONFIDENCE_BINS, 3),
    }
    found: dict[str, Any] = {"calibration": None}
    for name, shape in shapes.items():
        if name == "calibration" and name not in arrays:
            continue
        values = arrays[name]
        if values.shape != shape or values.dtype.kind not in "iuf":
            raise ValueError(f"{name} holds {values.dtype} {values.shape}, which must be numbers {shape}")
        if not np.all((values >= 0) & (values < 2.0**62)):
            raise ValueError(f"{name} holds values out of range")
        found[name] = values
    return Details(**found)


def refuse_large(path: Path) -> None:
    """Raise ValueError for arrays that together are larger than those of any evaluation: a few bytes can
    claim to be many.
    """
    with zipfile.ZipFile(path) as file:
        claimed = sum(one.file_size for one in file.infolist())
        refuse_method(file)
    if claimed > MOST_BYTES:
        raise ValueError(f"its arrays have {claimed:,} bytes, more than {MOST_BYTES:,}")


def refuse_method(file: zipfile.ZipFile) -> None:
    """Raise ValueError for a compression that no evaluation writes."""
    for one in file.infolist():
        if one.compress_type not in METHODS:
            raise ValueError(f"{quoted(one.filename)} is compressed with method {one.compress_type}")


# --- predictions --------------------------------------------------------------------------------------------


def shrunk(ids: np.ndarray) -> np.ndarray:
    """Ids H x W with a longest side of at most SIDE; nearest neighbour, so that no id is made up."""
    factor = SIDE / max(ids.shape)
    if factor >= 1:
        return ids
    height, width = (max(1, round(side * factor)) for side in ids.shape)
    return cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def as_png(ids: np.ndarray) -> bytes:
    """Ids (uint8 or uint16) as a grey PNG."""
    done, data = cv2.imencode(".png", ids, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return data.tobytes()


def write_predictions(folder: Path, predictions: dict[int, bytes]) -> None:
    """Write predictions.zip, in place of an older one: a PNG of ids for each index of the split."""
    with arriving_file(folder / PREDICTIONS) as path, zipfile.ZipFile(path, "w") as file:
        for index in sorted(predictions):
            file.writestr(f"{index}.png", predictions[index])


class Predictions:
    """The predictions that an evaluation has kept, each at most SIDE pixels long."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError for a damaged file. Without a file there are none."""
        self.path = folder / PREDICTIONS
        self.file: zipfile.ZipFile | None = None
        self.names: dict[int, str] = {}  # of the files, by index
        if self.path.is_file():
            try:
                if self.path.stat().st_size > 2 * MOST_PREDICTIONS:
                    raise ValueError(f"it has more than {2 * MOST_PREDICTIONS:,} bytes")
                self.file = zipfile.ZipFile(io.BytesIO(self.path.read_bytes()))
                refuse_method(self.file)
                self.names = {int(name.removesuffix(".png")): name for name in self.file.namelist()}
            except DAMAGE as error:
                raise self.damaged(error) from None

    def damaged(self, error: object) -> CheckpointError:
        words = " ".join(str(error).split())[:200]
        return CheckpointError(f"{self.path} is damaged: {words}", hint="evaluate again: deeplabx eval RUN")

    def indices(self) -> set[int]:
        """Of the images whose predictions are kept."""
        return set(self.names)

    def ids(self, index: int) -> np.ndarray | None:
        """Ids h x w of the image `index` of the data set's split; None where they were not kept."""
        if self.file is None or index not in self.names:
            return None
        name = self.names[index]
        try:
            if self.file.getinfo(name).file_size > MOST_OF_PNG:
                raise ValueError(f"{name} is larger than any kept prediction")
            content = self.file.read(name)
            sides = struct.unpack(">II", content[16:24])  # the header of a PNG: no larger image is decoded
            if not content.startswith(b"\x89PNG") or not 0 < max(sides) <= SIDE:
                raise ValueError(f"{name} is not a PNG of at most {SIDE} pixels")
            ids = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        except DAMAGE as error:
            raise self.damaged(error) from None
        if ids is None or ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
            raise self.damaged(f"{name} is no mask")
        return ids
