"""The staircase of DeepLabv1 (section 4)."""


def staircase(step: int, *, max_iters: int, every: int = 2000, factor: float = 0.1) -> float:
    """Multiply by `factor` every `every` steps; max_iters is not used."""
    return factor ** (step // every)
