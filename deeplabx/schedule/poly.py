"""The polynomial decay of DeepLab (ParseNet; v2, section 4.1)."""


def poly(step: int, *, max_iters: int, power: float = 0.9, end_factor: float = 0.0) -> float:
    """(1 - step / max_iters) ** power from 1 down to `end_factor`, which step max_iters would have."""
    return end_factor + (1 - end_factor) * (1 - step / max_iters) ** power
