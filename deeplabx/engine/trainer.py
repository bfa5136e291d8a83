"""The loop, and nothing else."""

import signal
import time
from collections.abc import Callable, Iterable

from deeplabx.dataset.loader import Batch
from deeplabx.engine.distributed import world_size
from deeplabx.engine.log import Log
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.signals import StopRequest, stopped
from deeplabx.engine.state import TrainState


def fit(
    state: TrainState,
    batches: Iterable[Batch],
    *,
    evaluate: Callable[[], Metrics],
    save: Callable[[bool], None],
    log: Log,
    eval_every: int,
    save_every: int,
) -> None:
    """Train to `state.max_iters`: one batch a step, evaluate and save every so often and at the end.

    `save` is told whether the state is the best so far. TERM, USR1 and Ctrl-C finish the step, save, and raise PreemptedError or StoppedError.
    """
    with StopRequest() as stop:
        for images, labels in log.timed(batches):
            begin = time.perf_counter()
            update = state.update(images, labels, stop=stop)
            log.step(state, update, seconds=time.perf_counter() - begin)

            finished, best = state.step == state.max_iters, False
            if state.step % eval_every == 0 or finished:
                result = evaluate()
                log.evaluation(state.step, result)
                best = result.miou > state.best_miou
                if best:
                    state.best = {"step": state.step, **result.to_plain()}
            asked = update.stop if world_size() > 1 else stop.number  # several processes must stop at one step
            if best or finished or state.step % save_every == 0 or asked:
                save(best)
            if asked and not finished:
                raise stopped(asked, f"{signal.Signals(asked).name} received: saved at step {state.step}")
