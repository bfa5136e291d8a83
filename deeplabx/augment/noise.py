"""Random noise, as of a sensor."""

from typing import NamedTuple

import numpy as np


class GaussianNoise(NamedTuple):
    std: float  # grey levels
    rng: np.random.Generator

    def __call__(self, image: np.ndarray) -> np.ndarray:
        values = self.rng.standard_normal(image.shape, np.float32)
        values *= np.float32(self.std)
        values += image
        return np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8)

    @property
    def words(self) -> str:
        return f"noise of std {self.std:.1f}"


class Noise:
    """With probability `p`: independent normal noise on every value, whose std is uniform in 0..std."""

    name = "noise"

    def __init__(self, p: float, *, std: float) -> None:
        self.p, self.std = p, std

    def draw(self, rng: np.random.Generator) -> GaussianNoise | None:
        return GaussianNoise(rng.uniform(0, self.std), rng) if rng.random() < self.p else None
