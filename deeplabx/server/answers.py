"""Segmentations as the bodies of responses. All of it runs in the worker thread."""

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from deeplabx.dataset import rle
from deeplabx.dataset.writing import image_of_ids
from deeplabx.server.contract import Segmentation, ServedModel


@dataclass(frozen=True)
class Answer:
    body: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


Encode = Callable[[ServedModel, np.ndarray, Segmentation], Answer]


@dataclass
class RunLengths:
    """COCO's run-length encoding: height and width, and the compressed counts."""

    size: list[int]
    counts: str


@dataclass
class ClassFound:
    """A class that is in an image."""

    id: int
    name: str
    colour: list[int]
    pixels: int
    share: float  # of the image's pixels
    rle: RunLengths


@dataclass
class Found:
    """An image's classes, largest first."""

    width: int
    height: int
    classes: list[ClassFound]


def ids_png(model: ServedModel, image: np.ndarray, found: Segmentation) -> Answer:
    """The ids as `deeplabx predict` writes them."""
    return png(image_of_ids(found.ids, model.palette))


def overlay_png(opacity: float) -> Encode:
    """The image with the colours of its classes laid over it."""

    def encode(model: ServedModel, image: np.ndarray, found: Segmentation) -> Answer:
        return png(Image.fromarray(model.overlay(image, found.ids, opacity)), level=1)

    return encode


def png(image: Image.Image, *, level: int = 6) -> Answer:
    """level: of zlib. Of a photo, 6 takes three times as long as 1 for a tenth less."""
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=level)
    return Answer(file.getvalue(), "image/png")


def classes_json(model: ServedModel, image: np.ndarray, found: Segmentation) -> Answer:
    """The classes of the image as `Found`."""
    height, width = found.ids.shape
    counts = np.bincount(found.ids.ravel(), minlength=len(model.classes))
    lengths = rle.run_lengths(found.ids)
    classes = [
        {
            "id": index,
            "name": model.classes[index],
            "colour": list(model.palette[index]),
            "pixels": int(counts[index]),
            "share": round(int(counts[index]) / found.ids.size, 6),
            "rle": {"size": [height, width], "counts": rle.compressed(lengths[index])},
        }
        for index in sorted(lengths, key=lambda index: -counts[index])
    ]
    text = json.dumps({"width": width, "height": height, "classes": classes}, ensure_ascii=False)
    return Answer(text.encode("utf-8"), "application/json")


def id_map(model: ServedModel, image: np.ndarray, found: Segmentation) -> Answer:
    """Ids row by row, then, where they are known, probabilities from 0 to 255; compressed by gzip. Ids are
    bytes, of more than 256 classes 16 bits with the lower byte first.
    """
    height, width = found.ids.shape
    wide = found.ids.dtype.itemsize > 1
    parts = [found.ids.astype("<u2") if wide else found.ids]
    parts += [] if found.probability is None else [found.probability]
    packed = zlib.compressobj(level=1, wbits=31)  # 31: gzip
    body = b"".join([*(packed.compress(np.ascontiguousarray(part).data) for part in parts), packed.flush()])
    headers = {
        "content-encoding": "gzip",
        "x-width": str(width),
        "x-height": str(height),
        "x-id-bytes": "2" if wide else "1",
        "x-probabilities": "0" if found.probability is None else "1",
    }
    return Answer(body, "application/octet-stream", headers)
