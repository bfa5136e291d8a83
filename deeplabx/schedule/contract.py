"""What a schedule is: a pure function of the step, so that resuming needs no state."""

from collections.abc import Callable

# The factor on the base learning rate for the update that leads from `step` to `step + 1`, 0 <= step <
# max_iters. Warm-up is not part of it: see `deeplabx.schedule.warmup`.
Schedule = Callable[[int], float]
