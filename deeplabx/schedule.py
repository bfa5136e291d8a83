"""Schedules by name: the factor on the base learning rate as a pure function of the step, so that resuming
needs no state.
"""

from collections.abc import Callable
from typing import Any

from deeplabx.errors import ConfigError

Schedule = Callable[[int], float]


def poly(step: int, *, max_iters: int, warmup_iters: int = 0, power: float = 0.9) -> float:
    """Factor for the update that leads from `step` to `step + 1`, 0 <= step < max_iters (ParseNet; v2,
    section 4.1).

    During the warm-up the same curve is scaled up linearly, from 1 / warmup_iters.
    """
    warmup = min(1.0, (step + 1) / warmup_iters) if warmup_iters else 1.0
    return warmup * (1 - step / max_iters) ** power


def staircase(
    step: int, *, max_iters: int, warmup_iters: int = 0, every: int = 2000, factor: float = 0.1
) -> float:
    """Times `factor` after each `every` steps (v1, section 4), with the same warm-up."""
    warmup = min(1.0, (step + 1) / warmup_iters) if warmup_iters else 1.0
    return warmup * factor ** (step // every)


SCHEDULES: dict[str, Callable[..., float]] = {"poly": poly, "step": staircase}


def build_schedule(name: str, **settings: Any) -> Schedule:
    if name not in SCHEDULES:
        raise ConfigError(f"schedule={name} is not known", hint=f"schedules: {', '.join(SCHEDULES)}")
    return lambda step: SCHEDULES[name](step, **settings)
