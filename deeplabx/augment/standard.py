"""The standard DeepLab pipeline: random scale, pad with the mean pixel and ignore, random crop, flip (v3,
section 4.1).
"""

from typing import NamedTuple

import cv2
import numpy as np


class Crop(NamedTuple):
    """The random parameters of one image."""

    height: int  # of the scaled image
    width: int
    top: int  # of the crop, in the scaled and padded image
    left: int
    flip: bool


class StandardAugment:
    """Image (uint8) and label (uint8 or uint16) to crop_size x crop_size, with random numbers from the given
    generator.

    Scaling, cropping and padding are one warp over the crop alone, so that the cost does not depend on the
    image's size. The result is that of resizing the whole image (bilinear; nearest for labels), padding on
    the right and bottom, and cropping.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        scale_min: float,
        scale_max: float,
        flip: float,
        pad_pixel: tuple[int, ...],
        ignore_index: int,
    ) -> None:
        self.crop_size = crop_size
        self.scale_range = (scale_min, scale_max)
        self.flip = flip
        self.pad_pixel = pad_pixel
        self.ignore_index = ignore_index

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.apply(image, label, self.draw(image.shape[0], image.shape[1], rng))

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        scale = rng.uniform(*self.scale_range)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        top = int(rng.integers(0, max(0, height - self.crop_size) + 1))
        left = int(rng.integers(0, max(0, width - self.crop_size) + 1))
        return Crop(height, width, top, left, bool(rng.random() < self.flip))

    def apply(self, image: np.ndarray, label: np.ndarray, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        cut_image = np.empty((self.crop_size, self.crop_size, image.shape[2]), np.uint8)
        cut_image[:] = self.pad_pixel
        cut_label = np.full((self.crop_size, self.crop_size), self.ignore_index, label.dtype)
        rows, columns = (
            min(self.crop_size, crop.height - crop.top),
            min(self.crop_size, crop.width - crop.left),
        )
        cut_image[:rows, :columns] = self.warp(image, crop, rows, columns, cv2.INTER_LINEAR)
        cut_label[:rows, :columns] = self.warp(label, crop, rows, columns, cv2.INTER_NEAREST)
        if crop.flip:
            cut_image, cut_label = cut_image[:, ::-1], cut_label[:, ::-1]
        return np.ascontiguousarray(cut_image), np.ascontiguousarray(cut_label)

    @staticmethod
    def warp(source: np.ndarray, crop: Crop, rows: int, columns: int, interpolation: int) -> np.ndarray:
        """The crop's part of the scaled image. Pixel centres: source = (scaled + 0.5) * ratio - 0.5."""
        vertical, horizontal = source.shape[0] / crop.height, source.shape[1] / crop.width
        to_source = np.array(
            [
                [horizontal, 0, (crop.left + 0.5) * horizontal - 0.5],
                [0, vertical, (crop.top + 0.5) * vertical - 0.5],
            ],
            dtype=np.float64,
        )
        flags = interpolation | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(
            source, to_source, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped).reshape(rows, columns, *source.shape[2:])  # OpenCV drops a single channel
