"""Random brightness, contrast, saturation and hue, and images without colour."""

from typing import NamedTuple

import cv2
import numpy as np


class Colours(NamedTuple):
    """Factors on brightness, contrast and saturation, and a shift of the hue as a share of the circle.

    Applied in this order, each rounded to uint8, as Pillow's ImageEnhance defines them: a factor blends the
    image with black, with its mean grey value, or with its own grey image. Saturation and hue are of RGB
    images; of other images, the mean of all values is the mean grey value.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if self.brightness != 1:
            image = blended(image, 0.0, self.brightness)
        if self.contrast != 1:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
            image = blended(image, float(grey.mean()), self.contrast)
        if self.saturation != 1:
            image = cv2.addWeighted(image, self.saturation, greyed(image), 1 - self.saturation, 0)
        if self.hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # the whole circle is 256
            hsv[..., 0] += np.uint8(round(self.hue * 256) % 256)
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
        return image

    @property
    def words(self) -> str:
        factors = [
            f"{name} x {factor:.2f}"
            for name, factor in zip(("brightness", "contrast", "saturation"), self[:3], strict=True)
            if factor != 1
        ]
        return ", ".join([*factors, *([f"hue {360 * self.hue:+.0f} degrees"] if self.hue else [])])


class ColourJitter:
    """With probability `p`: factors of 1 - amount to 1 + amount, a hue shift of -hue to +hue."""

    name = "jitter"

    def __init__(
        self, p: float, *, brightness: float, contrast: float, saturation: float, hue: float
    ) -> None:
        self.p, self.amounts, self.hue = p, (brightness, contrast, saturation), hue

    def draw(self, rng: np.random.Generator) -> Colours | None:
        if rng.random() >= self.p:
            return None
        brightness, contrast, saturation = (rng.uniform(1 - one, 1 + one) for one in self.amounts)
        return Colours(brightness, contrast, saturation, rng.uniform(-self.hue, self.hue))


class Grey:
    """With probability `p`: all three channels are the grey value (ITU-R 601)."""

    name = "grey"
    words = "grey"

    def __init__(self, p: float) -> None:
        self.p = p

    def draw(self, rng: np.random.Generator) -> "Grey | None":
        return self if rng.random() < self.p else None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return greyed(image)


def blended(image: np.ndarray, other: float, factor: float) -> np.ndarray:
    """factor * image + (1 - factor) * other, for each value: by a table."""
    table = np.rint(factor * np.arange(256) + (1 - factor) * other).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table)).reshape(image.shape)  # OpenCV drops a single channel


def greyed(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
