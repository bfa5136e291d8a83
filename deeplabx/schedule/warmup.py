"""Warm-up: what the first steps of a schedule are replaced or multiplied by."""

from deeplabx.schedule.contract import Schedule


def linear(step: int, *, schedule: Schedule, warmup_iters: int, warmup_factor: float | None = None) -> float:
    """The schedule, times a ramp from `warmup_factor` at step 0 to 1 at step warmup_iters - 1.

    The schedule counts from step 0, so after the ramp it is as without one. warmup_factor: in (0, 1]; None:
    1 / warmup_iters. warmup_iters: at least 1.
    """
    if step >= warmup_iters:
        return schedule(step)
    if warmup_factor is None:
        return (step + 1) / warmup_iters * schedule(step)
    if warmup_iters == 1:
        return warmup_factor * schedule(step)
    return (warmup_factor + (1 - warmup_factor) * step / (warmup_iters - 1)) * schedule(step)


def slow_start(step: int, *, schedule: Schedule, warmup_iters: int, warmup_factor: float) -> float:
    """`warmup_factor` for warmup_iters steps, then the schedule from its first step on.

    The released DeepLab code does this (slow_start_step and slow_start_learning_rate, burn-in none): its
    schedule has the remaining steps, so `schedule` must be one of max_iters - warmup_iters steps.
    """
    return warmup_factor if step < warmup_iters else schedule(step - warmup_iters)
