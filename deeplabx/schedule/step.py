"""The staircase of DeepLabv1 (section 4)."""

from deeplabx.schedule.contract import warmup


def staircase(
    step: int, *, max_iters: int, warmup_iters: int = 0, every: int = 2000, factor: float = 0.1
) -> float:
    """Multiply by `factor` every `every` steps, after a linear warm-up; max_iters is not used."""
    return warmup(step, warmup_iters=warmup_iters) * factor ** (step // every)
