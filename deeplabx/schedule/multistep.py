"""A staircase whose steps are at given shares of the run."""

from collections.abc import Sequence


def multistep(step: int, *, max_iters: int, milestones: Sequence[float], factor: float = 0.1) -> float:
    """Multiply by `factor` at each of `milestones`: increasing shares of max_iters in (0, 1), each rounded to
    the nearest step.
    """
    passed = sum(step >= round(share * max_iters) for share in milestones)
    return factor**passed
