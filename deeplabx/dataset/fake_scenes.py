"""Generated images with their labels, which small data sets are made of."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from deeplabx.dataset.contract import IGNORE_INDEX, Palette

SPLITS = ("train", "val")


class Scene(NamedTuple):
    image: np.ndarray  # uint8 H x W x 3
    ids: np.ndarray  # uint8 H x W, train ids and the ignore index


def scenes(
    count: int, palette: Palette, *, height: int, width: int, seed: int, void: bool = True
) -> Iterator[Scene]:
    """Images of up to five patches, each in its class's colour with noise and, with `void`, a void border:
    easy to learn.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        ids = np.full((height, width), rng.integers(len(palette)), np.uint8)
        for _ in range(rng.integers(2, 6)):
            corner = rng.integers((0, 0), (width, height))
            opposite = corner + rng.integers((width // 6, height // 6), (width // 2, height // 2))
            index = int(rng.integers(len(palette)))
            cv2.rectangle(ids, corner.tolist(), opposite.tolist(), index, -1)
            if void:
                cv2.rectangle(ids, corner.tolist(), opposite.tolist(), IGNORE_INDEX, 1)
        colours = np.array([*palette, *[(128, 128, 128)] * (256 - len(palette))], np.float32)[ids]
        noisy = colours + rng.normal(0, 12, colours.shape)
        yield Scene(np.clip(noisy, 0, 255).astype(np.uint8), ids)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
