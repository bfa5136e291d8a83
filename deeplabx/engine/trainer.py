"""The loop, and nothing else."""

import signal
import time
from collections.abc import Callable, Iterable

from deeplabx.dataset.loader import Batch
from deeplabx.engine.distributed import world_size
from deeplabx.engine.evaluator import LeftError
from deeplabx.engine.log import Log
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.signals import StopRequest, stopped
from deeplabx.engine.state import TrainState


def fit(
    state: TrainState,
    batches: Iterable[Batch],
    *,
    stop: StopRequest,
    evaluate: Callable[[], Metrics],
    save: Callable[[bool, bool], bool],
    log: Log,
    eval_every: int,
    save_every: int,
) -> None:
    """Train to `state.max_iters`: one batch a step, evaluate and save every so often and at the end.

    evaluate raises LeftError when it is left because of `stop`. save(best, needed): whether the state was
    saved, being the best so far or not; where a save is needed, a full disk is its error. A stop finishes the
    step, saves, and raises PreemptedError or StoppedError; an evaluation that was left or had not begun is
    made up for when the run is resumed.
    """

    def conclude(asked: int | None) -> None:
        """What follows a step: an evaluation, a save and the end, as they are due."""
        finished, best, before = state.step == state.max_iters, False, state.best
        due = evaluation_due(state, eval_every)
        if due and not asked:
            try:
                result = evaluate()
            except LeftError as left:
                asked = left.number
            else:
                state.evaluated, due = state.step, False
                log.evaluation(state.step, result)
                best = result.miou > state.best_miou
                if best:
                    state.best = {"step": state.step, **result.to_plain()}
        needed = finished or asked is not None
        if (best or needed or state.step % save_every == 0) and not save(best, needed):
            state.best = before  # a best checkpoint that is not on the disk is none
        if asked and (due or not finished):
            raise stopped(asked, f"{signal.Signals(asked).name} received: saved at step {state.step}")

    if state.step and evaluation_due(state, eval_every):
        conclude(None)
    for batch in log.timed(batches):
        begin = time.perf_counter()
        update = state.update(batch.images, batch.labels, stop=stop)
        log.step(state, update, seconds=time.perf_counter() - begin)
        conclude(update.stop if world_size() > 1 else stop.number)  # several processes must stop at one step


def evaluation_due(state: TrainState, eval_every: int) -> bool:
    return state.evaluated != state.step and (state.step % eval_every == 0 or state.step == state.max_iters)
