"""The interface of an augmentation."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

Augmented = tuple[np.ndarray, np.ndarray]
Described = tuple[np.ndarray, np.ndarray, list[str]]


class Augment(Protocol):
    """What every augmentation is: a callable. Two further methods are optional, see `described` and `around`.

    image: uint8 H x W x channels. label: H x W, uint8, or uint16 where the ignore index is above 255. Both
    are returned with the same types, as arrays of crop_size x crop_size. All random numbers come from `rng`,
    so that the result does not depend on workers, processes, or where a run was resumed. No label appears
    that was not in the image, except the ignore index.

    Optional::

        def described(self, image, label, rng) -> tuple[np.ndarray, np.ndarray, list[str]]:
            '''The result of calling it, and what was drawn in words, such as "scale 1.31".'''

        def around(self, image, label, rng, wanted: int) -> tuple[np.ndarray, np.ndarray]:
            '''As calling it, but the crop holds a random pixel of the class `wanted`.'''
    """

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Augmented: ...


def described(
    augment: Callable[..., Augmented], image: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> Described:
    """What an augmentation returns, and in words what it has drawn; no words where it cannot say it."""
    method: Callable[..., Described] | None = getattr(augment, "described", None)
    return (*augment(image, label, rng), []) if method is None else method(image, label, rng)
