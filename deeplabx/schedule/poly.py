"""The polynomial decay of DeepLab (ParseNet; v2, section 4.1)."""

from deeplabx.schedule.contract import warmup


def poly(step: int, *, max_iters: int, warmup_iters: int = 0, power: float = 0.9) -> float:
    """(1 - step / max_iters) ** power, after a linear warm-up."""
    return warmup(step, warmup_iters=warmup_iters) * (1 - step / max_iters) ** power
