"""Images, masks and SBD's .mat files that fill the memory, or run code where they are trusted."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from deeplabx.dataset.fake import write_fake
from tests.security.conftest import (
    ON_FOLDER,
    ONE_STEP,
    PICKLE,
    PREDICT,
    Bomb,
    Content,
    Harmless,
    Place,
    short_form,
    written,
)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(side: int) -> bytes:
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def mat(side: int) -> bytes:
    """A matrix of side x side pixels by its header, with no data behind it."""
    flags, shape = struct.pack("<IIII", 6, 8, 9, 0), struct.pack("<IIii", 5, 8, side, side)
    matrix = flags + shape + struct.pack("<HH4sII", 1, 4, b"GTcl", 2, 1 << 30)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    return header + struct.pack("<II", 14, len(matrix)) + matrix


def text_bomb(bomb: Bomb) -> bytes:
    return png(8, 8, *[chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(200_000_000)))] * 3)


def npy(bomb: Bomb) -> bytes:
    return written(lambda file: np.save(file, np.array([bomb], dtype=object), allow_pickle=True))


def mat_of_objects(bomb: Bomb) -> bytes:
    cells = np.array([[b"\x80\x04" + pickle.dumps(bomb)]], dtype=object)
    return written(lambda file: savemat(file, {"GTcls": {"Segmentation": cells, "Boundaries": 0}}))


IMAGES: dict[str, Content] = {
    "a PNG of 60000 x 60000": png(60_000, 60_000),
    "a PNG with a text bomb": text_bomb,
    "a TIFF of 60000 x 60000": tiff(60_000),
    "a PPM of 60000 x 60000": b"P6 60000 60000 255\n" + bytes(100),
    "EPS": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(MARKER) (w) file\nshowpage\n",
    "SVG": '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    '<svg xmlns="http://www.w3.org/2000/svg">&x;</svg>',
    "a GIF of 60000 x 60000": b"GIF89a\x60\xea\x60\xea\x80\0\0"
    + bytes(6)
    + b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    "an .npy of objects": npy,
    "a pickle": PICKLE,
}
MASKS = ["a PNG of 60000 x 60000", "a TIFF of 60000 x 60000", "an .npy of objects", "a pickle"]
MATS: dict[str, Content] = {
    "a pickle": PICKLE,
    "an .npy of objects": npy,
    "cells of objects": mat_of_objects,
    "2^40 pixels": mat(1 << 20),
}


@pytest.mark.parametrize("kind", short_form(IMAGES))
def test_an_image(kind: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    place.write("photos/photo.png", IMAGES[kind])
    harmless(PREDICT)


@pytest.mark.parametrize("kind", short_form(MASKS))
def test_a_mask(kind: str, place: Place, harmless: Harmless) -> None:
    write_fake("folder", Path("data"), images=2, seed=0)
    for path in Path("data/masks/train").iterdir():
        place.write(str(path), IMAGES[kind])
    harmless(ON_FOLDER)


@pytest.mark.parametrize("kind", short_form(MATS))
def test_a_mat_of_sbd(kind: str, place: Place, harmless: Harmless) -> None:
    write_fake("voc", Path("voc"), images=2, seed=0)
    for path in Path("voc/benchmark_RELEASE/dataset/cls").iterdir():
        place.write(str(path), MATS[kind])
    data = "dataset=voc dataset.root=voc dataset.train_split=train_aug"
    harmless(f"{ONE_STEP} {data} schedule.max_iters=2")  # two steps read every label
