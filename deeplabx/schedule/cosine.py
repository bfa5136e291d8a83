"""Half a period of the cosine (SGDR, 1608.03983, without restarts)."""

import math


def cosine(step: int, *, max_iters: int, end_factor: float = 0.0) -> float:
    """From 1 down to `end_factor`, which step max_iters would have."""
    return end_factor + (1 - end_factor) * (1 + math.cos(math.pi * step / max_iters)) / 2
