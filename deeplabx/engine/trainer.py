"""The training loop."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from deeplabx.dataset.arrivals import PATIENCE, POLL, QUIET
from deeplabx.dataset.loader import Batch
from deeplabx.engine.evaluator import InterruptedEvaluationError
from deeplabx.engine.log import Log
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.saver import Saver
from deeplabx.engine.state import Attempt, TrainState
from deeplabx.errors import DataError, PeerFailedError, ResourceError
from deeplabx.process.distributed import agreed
from deeplabx.process.signals import StopRequest, stopped


def fit(
    state: TrainState,
    batches: Iterable[Batch | None],
    *,
    stop: StopRequest,
    evaluate: Callable[[], Metrics],
    saver: Saver,
    log: Log,
    eval_every: int,
    save_every: int,
) -> None:
    """Train to `state.max_iters`, one batch a step, or until `state.stopped_early`; evaluate and save at the
    given intervals and at the end. None in `batches`: the next one has not arrived within another second.

    On a signal, finish the pass (of the last pass, the step) or the waiting, save, and raise PreemptedError
    or StoppedError. `evaluate` raises InterruptedEvaluationError when `stop` interrupts it; that evaluation
    is repeated on resume. On a full disk a periodic checkpoint is skipped; the last one of a run or of a stop
    raises ResourceError. An error of reading the data ends the run, in all its processes; no step is lost.
    """
    for asked in updates(
        state, batches, stop=stop, saver=saver, log=log, eval_every=eval_every, save_every=save_every
    ):
        if asked is None and evaluation_due(state, eval_every):
            with saved_first(state, saver, log):
                asked = evaluated(state, evaluate, log)
        if state.finished or asked is not None:
            saver.save()
        elif state.is_best or state.step % save_every == 0:
            saver.try_save()
        if asked is not None and not (state.finished and state.evaluated == state.step):
            raise stopped(asked, f"{signal.Signals(asked).name} received: saved at step {state.step}")


def updates(
    state: TrainState,
    batches: Iterable[Batch | None],
    *,
    stop: StopRequest,
    saver: Saver,
    log: Log,
    eval_every: int,
    save_every: int,
) -> Iterator[int | None]:
    """One update per batch, each followed by the signal that asked to stop, if any.

    A run that was stopped before an evaluation starts with that evaluation: nothing is updated before the
    first yield.
    """
    if evaluation_due(state, eval_every):
        yield None
    if state.finished:  # by that evaluation, or by the one that it was saved after
        return
    waited = 0.0  # seconds in which this process or another had no batch
    for batch in log.timed(arriving(state, batches, saver, log)):
        while (attempt := attempted(state, batch, stop=stop)).is_repeated:
            report(state, log)  # in all processes; the device has nothing to do in the meantime
            waited += POLL
            if waited == QUIET:
                log.say(waiting_words(state))
            if batch is None:
                break  # ask for it again
        if attempt.failed:
            with saved_first(state, saver, log):
                raise PeerFailedError("another process of the run could not read its data")
        if attempt.is_repeated:
            continue
        if not attempt.undone:
            waited = 0.0
        # The report of a step is read when the next one is enqueued, so that the device never waits; before
        # an evaluation or a checkpoint, when the step is over.
        due = attempt.stop is not None or is_due(state, eval_every=eval_every, save_every=save_every)
        report(state, log, behind=0 if due else 1)
        log.unrepeatable(state.unrepeatable)
        yield attempt.stop
        if state.finished:  # one more batch would begin a step that other processes do not take
            return


def report(state: TrainState, log: Log, *, behind: int = 0) -> None:
    """Log the steps that were not reported yet, but for the newest `behind`."""
    for update in state.reports(behind=behind):
        log.step(update)


def arriving(
    state: TrainState, batches: Iterable[Batch | None], saver: Saver, log: Log
) -> Iterator[Batch | None]:
    """The batches. After an error of reading one, all processes save and end: the others would wait for this
    one's part of the step.
    """
    with saved_first(state, saver, log):
        try:
            yield from batches
        except (DataError, ResourceError):
            state.without_batch(failed=True)
            raise


@contextmanager
def saved_first(state: TrainState, saver: Saver, log: Log) -> Iterator[None]:
    """Save before an error of reading ends the run, so that no step is lost: once the data or the memory
    suffice, the run is resumed. For a block between two steps, which such an error leaves in all processes.
    """
    try:
        yield
    except (DataError, ResourceError, PeerFailedError):
        if state.step:
            report(state, log)
            saver.try_save()
        # A process that exits ends the others: the main one must have saved. Where only this one failed, the
        # others are told that it did, wherever they ask.
        agreed(None, 1, 1)
        raise


def attempted(state: TrainState, batch: Batch | None, *, stop: StopRequest) -> Attempt:
    if batch is None:
        return state.without_batch(stop=stop)
    return state.update(batch.images, batch.labels, stop=stop)


def is_due(state: TrainState, *, eval_every: int, save_every: int) -> bool:
    """Whether an evaluation or a checkpoint follows this step."""
    return state.step % save_every == 0 or evaluation_due(state, eval_every)


def waiting_words(state: TrainState) -> str:
    return (
        f"step {state.step + 1} has waited {QUIET:.0f} s for data: the disk is very slow, or does not "
        f"answer; the run ends if no batch arrives in {PATIENCE:.0f} s, and can be stopped as usual"
    )


def evaluation_due(state: TrainState, eval_every: int) -> bool:
    """Whether this step should be evaluated and has not been yet. Step 0 is never evaluated."""
    return state.evaluated != state.step and (state.step % eval_every == 0 or state.finished)


def evaluated(state: TrainState, evaluate: Callable[[], Metrics], log: Log) -> int | None:
    """Evaluate, and record the result if it is the best; return the signal that interrupted it, if any."""
    try:
        result = evaluate()
    except InterruptedEvaluationError as interrupted:
        return interrupted.number
    state.evaluated = state.step
    log.evaluation(state.step, result)
    state.without_better += 1
    if result.miou > state.best_miou:
        state.best, state.without_better = {"step": state.step, **result.to_plain()}, 0
    if state.stopped_early and state.step < state.max_iters:
        number = state.without_better
        last = "last evaluation was" if number == 1 else f"last {number} evaluations were"
        log.say(
            f"ends at step {state.step} of {state.max_iters}: the {last} not better than "
            f"that of step {state.best['step']} (trainer.patience={state.patience})"
        )
    return None
