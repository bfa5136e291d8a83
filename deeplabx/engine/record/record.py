"""The record of an evaluation, and its two files: images.npz and predictions.zip."""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.engine.durable import arriving_file
from deeplabx.engine.record.counts import ClassPixels, ImageCounts
from deeplabx.engine.record.details import Details
from deeplabx.errors import CheckpointError

IMAGES, PREDICTIONS = "images.npz", "predictions.zip"
VERSION = 1
SIDE = 512  # pixels: longest side of a kept prediction
MOST_BYTES = 1 << 31  # of an array in the file
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
            # Opened here: of a damaged file, NumPy leaves its own open.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls.of_arrays({name: file[name] for name in file.files})
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            RecursionError,
            zipfile.BadZipFile,
        ) as error:
            words = " ".join(str(error).split())[:200]
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
        image, cell, pixels = (arrays[name].astype(np.int64) for name in ("image", "cell", "pixels"))
        if not (image.ndim == 1 and image.shape == cell.shape == pixels.shape):
            raise ValueError("its matrices differ in length")
        if len(image) and not (
            0 <= image.min() <= image.max() < len(names)
            and 0 <= cell.min() <= cell.max() < count**2
            and pixels.min() > 0
        ):
            raise ValueError("its matrices hold values out of range")
        indices, sizes = arrays["indices"].astype(np.int64), arrays["sizes"].astype(np.int64)
        if indices.shape != (len(names),) or sizes.shape != (len(names), 2):
            raise ValueError("it has not one index and size for each image")
        if groups is not None and len(groups) != len(names):
            raise ValueError("it has not one group for each image")
        details = None
        if "boundary" in arrays:
            details = Details(
                boundary=arrays["boundary"],
                distance=arrays["distance"],
                objects=arrays["objects"],
                calibration=arrays.get("calibration"),
            )
            if details.boundary.shape != (count, 2) or details.distance.shape[1:] != (count, 3):
                raise ValueError("its details have another number of classes")
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
        if self.path.is_file():
            try:
                self.file = zipfile.ZipFile(io.BytesIO(self.path.read_bytes()))
            except (OSError, zipfile.BadZipFile) as error:
                raise CheckpointError(f"{self.path} is damaged: {error}", hint="deeplabx eval RUN") from None

    def indices(self) -> set[int]:
        """Of the images whose predictions are kept."""
        return set() if self.file is None else {int(Path(name).stem) for name in self.file.namelist()}

    def ids(self, index: int) -> np.ndarray | None:
        """Ids h x w of the image `index` of the data set's split; None where they were not kept."""
        name = f"{index}.png"
        if self.file is None or name not in self.file.namelist():
            return None
        try:
            ids = cv2.imdecode(np.frombuffer(self.file.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, zipfile.BadZipFile, zlib.error, cv2.error) as error:
            raise CheckpointError(f"{self.path} is damaged: {error}", hint="deeplabx eval RUN") from None
        if ids is None or ids.ndim != 2:
            raise CheckpointError(f"{self.path} is damaged: {name} is no mask", hint="deeplabx eval RUN")
        return ids
