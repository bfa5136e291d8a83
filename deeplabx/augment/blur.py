"""Random Gaussian blur."""

from typing import NamedTuple

import cv2
import numpy as np


class GaussianBlur(NamedTuple):
    sigma: float  # pixels of the crop

    def __call__(self, image: np.ndarray) -> np.ndarray:
        blurred = cv2.GaussianBlur(image, (0, 0), self.sigma, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(blurred).reshape(image.shape)  # OpenCV drops a single channel

    @property
    def words(self) -> str:
        return f"blur of sigma {self.sigma:.2f}"


class Blur:
    """With probability `p`: a Gaussian blur whose sigma is uniform in a range."""

    name = "blur"

    def __init__(self, p: float, *, sigma: tuple[float, float]) -> None:
        self.p, self.sigma = p, sigma

    def draw(self, rng: np.random.Generator) -> GaussianBlur | None:
        return GaussianBlur(rng.uniform(*self.sigma)) if rng.random() < self.p else None
