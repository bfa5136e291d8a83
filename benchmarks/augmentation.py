"""What augmentations cost: images a second on one core, from an image of Cityscapes' size to a crop.

python -m benchmarks.augmentation [HEIGHT WIDTH CROP]

Each is measured in turns, and the median of the turns is printed: the standard augmentation of the papers, as
it was before it could do more and now; the same with everything on; and with albumentations what comes
nearest, in its natural order and with the crop after the scale. Reading the file is not counted.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from deeplabx.augment.albumentations import AlbumentationsAugment
from deeplabx.augment.standard import Crop, StandardAugment

TURNS, IMAGES = 7, 12
PAD, IGNORE = (124, 116, 104), 255
PAPERS = {"scale_min": 0.5, "scale_max": 2.0, "flip": 0.5}
EVERYTHING = {
    **PAPERS,
    "rotation": 10,
    "jitter": 1,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.05,
    "grey": 0.1,
    "blur": 1,
    "noise": 1,
    "noise_std": 10,
    "cutout": 1,
}
SCALE_AND_FLIP = (
    {"name": "RandomScale", "scale_limit": [-0.5, 1.0], "p": 1},
    {"name": "HorizontalFlip", "p": 0.5},
)
OTHERS = (
    {"name": "Rotate", "limit": [-10, 10], "p": 1},
    {"name": "ColorJitter", "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05, "p": 1},
    {"name": "ToGray", "p": 0.1},
    {"name": "GaussianBlur", "sigma_limit": [0.1, 2.0], "p": 1},
    {"name": "GaussNoise", "std_range": [0.0, 0.04], "p": 1},
    {"name": "CoarseDropout", "num_holes_range": [1, 1], "p": 1},
)


class Before(StandardAugment):
    """The standard augmentation as it was."""

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        crop = self.draw(image.shape[0], image.shape[1], rng)
        return self.apply_before(image, label, crop)

    def apply_before(self, image: np.ndarray, label: np.ndarray, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        size = self.crop_size
        cut_image = np.empty((size, size, image.shape[2]), np.uint8)
        cut_image[:] = self.pad_pixel
        cut_label = np.full((size, size), self.ignore_index, label.dtype)
        rows, columns = min(size, crop.height - crop.top), min(size, crop.width - crop.left)
        cut_image[:rows, :columns] = self.warp(image, crop, rows, columns, cv2.INTER_LINEAR)
        cut_label[:rows, :columns] = self.warp(label, crop, rows, columns, cv2.INTER_NEAREST)
        if crop.flip:
            cut_image, cut_label = cut_image[:, ::-1], cut_label[:, ::-1]
        return np.ascontiguousarray(cut_image), np.ascontiguousarray(cut_label)


def main(height: int = 1024, width: int = 2048, crop: int = 769) -> None:
    cv2.setNumThreads(0)
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8), (width, height))
    small = rng.integers(0, 19, (height // 64, width // 64), np.uint8)
    label = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)

    def standard(kind: type[StandardAugment], settings: Mapping[str, Any]) -> StandardAugment:
        return kind(crop_size=crop, pad_pixel=PAD, ignore_index=IGNORE, **settings)

    def library(*transforms: Mapping[str, Any]) -> AlbumentationsAugment:
        return AlbumentationsAugment(
            crop_size=crop, transforms=transforms_list(transforms), pad_pixel=PAD, ignore_index=IGNORE
        )

    cut = {"name": "RandomCrop", "height": crop, "width": crop, "pad_if_needed": True, "p": 1}
    ways: dict[str, Callable[..., Any]] = {
        "standard, before": standard(Before, PAPERS),
        "standard": standard(StandardAugment, PAPERS),
        "standard, everything on": standard(StandardAugment, EVERYTHING),
        "albumentations, scale and flip": library(*SCALE_AND_FLIP),
        "albumentations, everything": library(*SCALE_AND_FLIP, *OTHERS),
        "albumentations, everything, crop after scale": library(
            SCALE_AND_FLIP[0], cut, SCALE_AND_FLIP[1], *OTHERS
        ),
    }
    print(f"image {height} x {width}, crop {crop} x {crop}: images a second on one core")
    for name, per_second in measured(ways, image, label).items():
        print(f"  {name:<46} {per_second:7.1f}")


def transforms_list(transforms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(one) for one in transforms]


def measured(
    ways: Mapping[str, Callable[..., Any]], image: np.ndarray, label: np.ndarray
) -> dict[str, float]:
    """The median over the turns of each way's images a second; in each turn all ways have the same seeds."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, TURNS):  # the first is not counted
        for name, augment in ways.items():
            began = time.perf_counter()
            for number in range(IMAGES):
                augment(image, label, np.random.default_rng([max(turn, 0), number]))
            if turn >= 0:
                found[name].append(IMAGES / (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in found.items()}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
