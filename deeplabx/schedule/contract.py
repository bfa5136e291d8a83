"""What a schedule is: a pure function of the step, so that resuming needs no state."""

from collections.abc import Callable

# The factor on the base learning rate for the update that leads from `step` to `step + 1`, 0 <= step <
# max_iters. Warm-up is not part of it: see `deeplabx.schedule.warmup`.
Schedule = Callable[[int], float]


def warmup(step: int, *, warmup_iters: int) -> float:
    """A linear ramp from 1 / warmup_iters to 1, for a schedule that does its own warm-up."""
    return min(1.0, (step + 1) / warmup_iters) if warmup_iters else 1.0
