"""The cost of reading a pair: image and label of Cityscapes and of CamVid, as deeplabx reads them and in the
way it did before, which opened the two files six times. Alternating, with the files in the page cache.

DEEPLABX_TEST_DATA=FOLDER python -m benchmarks.reading     (FOLDER holds cityscapes/ and camvid/)
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.label_file import read_pair, read_raw
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset

ROUNDS, PAIRS = 5, 6
Pair = tuple[Path, Path]


def main() -> None:
    if "DEEPLABX_TEST_DATA" not in os.environ:
        sys.exit("set DEEPLABX_TEST_DATA to a folder that holds cityscapes/ or camvid/")
    for name in ("cityscapes", "camvid"):
        root = Path(os.environ["DEEPLABX_TEST_DATA"]) / name
        try:
            samples = open_dataset(name, split="train", root=str(root)).samples
        except DataError as error:
            print(f"{name}: {error.message}")
            continue
        assert isinstance(samples, LabelledFiles)
        print(f"{name:<11} {compared(samples.pairs[:PAIRS])}")


def compared(pairs: list[Pair]) -> str:
    """Median milliseconds of a pair in both ways, and their ratio."""
    for pair in pairs:
        before, after = six_openings(pair), one_opening(pair)
        assert all(np.array_equal(*both) for both in zip(before, after, strict=True)), pair
    seconds: dict[Callable[[Pair], object], list[float]] = {six_openings: [], one_opening: []}
    for _ in range(ROUNDS):
        for way, measured in seconds.items():
            for pair in pairs:
                began = time.perf_counter()
                way(pair)
                measured.append(time.perf_counter() - began)
    before_ms, after_ms = (1000 * statistics.median(measured) for measured in seconds.values())
    return f"six openings {before_ms:.1f} ms, one each {after_ms:.1f} ms: {after_ms / before_ms:.2f}"


def one_opening(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    image, label = read_pair(*pair, read=partial(read_raw, colours=False))
    return image, label.values


def six_openings(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Checksums in an opening of their own; EXIF in another, which decodes the pixels of a PNG."""
    image_path, label_path = pair
    verify(label_path)
    with Image.open(label_path) as image:
        label = np.array(image)
    verify(image_path)
    with Image.open(image_path) as image:
        turned = image.getexif().get(0x0112, 1) != 1
    verify(image_path)
    with Image.open(image_path) as image:
        pixels = np.array((ImageOps.exif_transpose(image) if turned else image).convert("RGB"))
    return pixels, label


def verify(path: Path) -> None:
    with Image.open(path) as image:
        if image.format == "PNG":
            image.verify()


if __name__ == "__main__":
    main()
