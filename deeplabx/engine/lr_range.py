"""The learning-rate range test (1506.01186): a few steps with a rising learning rate, and what they show."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from deeplabx.dataset.loader import Batch
from deeplabx.engine.state import TrainState
from deeplabx.engine.trainer import attempted
from deeplabx.errors import DataError, PeerFailedError, ResourceError
from deeplabx.process.signals import StopRequest

SMALLEST, LARGEST = 1e-6, 10.0  # learning rates of the first and the last step
SMOOTHING = 0.9  # decay of the running mean of the loss
LEAST_FALL = 0.01  # of the first loss, over a tenth of the test: less is noise
DIVERGED = 2.0  # times the smallest running mean: the loss has diverged
BELOW_DIVERGENCE = 10.0  # the result is at least this many times below where the loss diverged


class Measured(NamedTuple):
    """One step of the test."""

    lr: float
    loss: float
    smooth: float  # running mean of the losses up to it


class RangeTest(NamedTuple):
    """The steps of a test, where its loss diverged, and the learning rate that follows from them."""

    steps: list[Measured]
    diverged_at: float | None  # None: not up to the largest learning rate
    steepest: float | None  # learning rate where the loss fell fastest; None: it never fell
    lr: float | None  # None: no learning rate lowered the loss


def rising(step: int, *, steps: int) -> float:
    """From SMALLEST at step 0 to LARGEST at the last of `steps`, the same factor in each."""
    return SMALLEST * (LARGEST / SMALLEST) ** (step / (steps - 1))


def range_test(
    state: TrainState, batches: Iterable[Batch | None], *, steps: int, stop: StopRequest
) -> tuple[RangeTest | None, int | None]:
    """Train `state` with a rising learning rate until its loss diverges, at most `steps` steps: the test, or
    None and the signal that stopped it. All processes of a run must call it.

    state: of a copy of the model, with a base learning rate of 1 and on_nonfinite=skip; it is of no use
    afterwards. Raises what reading the data raises.
    """
    state.schedule, state.max_iters = partial(rising, steps=steps), steps
    losses: list[float] = []
    try:
        for batch in batches:
            while (attempt := attempted(state, batch, stop=stop)).is_repeated and batch is not None:
                pass
            if attempt.stop is not None:
                return None, attempt.stop
            if attempt.failed:
                raise PeerFailedError("another process of the run could not read its data")
            losses += [math.inf if update.skipped else update.loss for update in state.reports()]
            if losses and (has_diverged(losses) or state.finished):
                break
    except (DataError, ResourceError):
        state.without_batch(failed=True)
        raise
    return concluded(losses, steps=steps), None


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the newest loss is not finite, or their running mean far above its smallest value."""
    if not math.isfinite(losses[-1]):
        return True
    smooth = running_means(losses)
    return smooth[-1] > DIVERGED * min(smooth)


def running_means(losses: Sequence[float]) -> list[float]:
    """The exponential running mean, without its bias to zero in the first steps."""
    means, total = [], 0.0
    for number, loss in enumerate(losses, start=1):
        total = SMOOTHING * total + (1 - SMOOTHING) * loss
        means.append(total / (1 - SMOOTHING**number))
    return means


def concluded(losses: Sequence[float], *, steps: int) -> RangeTest:
    """What the losses of the first of `steps` steps show.

    Two rules of thumb bound the result: the learning rate where the running mean falls fastest (per factor of
    the learning rate, over a tenth of the test), which is careful, and a tenth of the one at which the loss
    diverged, which is bold. The result is their geometric mean, at most the second; without a divergence the
    first. It has three digits, so that optimizer.lr can be given it exactly.
    """
    rates = [rising(step, steps=steps) for step in range(len(losses))]
    diverged_at = rates[-1] if has_diverged(losses) else None
    finite = [loss for loss in losses if math.isfinite(loss)]
    smooth = running_means(finite)
    measured = [Measured(*row) for row in zip(rates, finite, smooth, strict=False)]
    half = max(1, steps // 20)
    falls = {index: smooth[index - half] - smooth[index + half] for index in range(half, len(smooth) - half)}
    best = max(falls, key=lambda index: falls[index], default=None)
    if best is None or falls[best] < LEAST_FALL * smooth[0]:
        return RangeTest(measured, diverged_at, None, None)
    steepest = rates[best]
    bold = steepest if diverged_at is None else diverged_at / BELOW_DIVERGENCE
    found = min(bold, math.sqrt(steepest * bold))
    return RangeTest(measured, diverged_at, steepest, float(f"{found:.3g}"))
