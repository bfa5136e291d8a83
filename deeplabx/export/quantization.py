"""int8: the same file with 8-bit integers, its ranges set by images of the training split."""

import random
from typing import Any


def calibration_indices(count: int, *, of: int, seed: int) -> list[int]:
    """Which images set the ranges: `count` of them, drawn by the run's seed."""
    return sorted(random.Random(f"calibration {seed}").sample(range(of), min(count, of)))


ATTEMPTS: list[Any] = []


def quantized(path, arrays, *, attempt): ...
