"""The loop, without data and without a disk."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from deeplabx.dataset.loader import Batch
from deeplabx.engine.evaluator import InterruptedEvaluationError
from deeplabx.engine.log import Log
from deeplabx.engine.metrics import Metrics, metrics
from deeplabx.engine.state import TrainState, Update
from deeplabx.engine.trainer import fit
from deeplabx.errors import DataError, DivergedError, PreemptedError, StoppedError
from deeplabx.process.signals import StopRequest
from tests.engine.states import IMAGES, LABELS, model_without_noise, state_of


def result(miou: float) -> Metrics:
    found = metrics(torch.eye(2, dtype=torch.int64), ["a", "b"])
    return Metrics(**{**found.to_plain(), "miou": miou})


@dataclass
class Run:
    """What happened, in order: update N, evaluate N, save N."""

    state: TrainState
    events: list[str] = field(default_factory=list)
    mious: dict[int, float] = field(default_factory=dict)
    on_evaluate: Callable[[], None] = lambda: None
    on_update: Callable[[], None] = lambda: None

    def fit(self, **settings: Any) -> None:
        with StopRequest() as stop:
            fit(
                self.state,
                self.batches(),
                stop=stop,
                evaluate=lambda: self.evaluate(stop),
                saver=self,  # type: ignore[arg-type]
                **{"log": Log(), "eval_every": 2, "save_every": 3, **settings},
            )

    def batches(self) -> Any:
        while self.state.step < self.state.max_iters:
            self.on_update()
            yield Batch(IMAGES[2:4], LABELS[2:4], [])
            self.events.append(f"step {self.state.step}")

    def evaluate(self, stop: StopRequest) -> Metrics:
        self.on_evaluate()
        if stop.number is not None:
            raise InterruptedEvaluationError(stop.number)
        self.events.append(f"evaluate {self.state.step}")
        return result(self.mious.get(self.state.step, 0.5))

    def save(self) -> None:
        """A checkpoint that is needed."""
        self.events.append(f"save {self.state.step}{' best' if self.state.is_best else ''} needed")

    def try_save(self) -> None:
        """One that a full disk may cost."""
        self.events.append(f"save {self.state.step}{' best' if self.state.is_best else ''}")


def run_of(max_iters: int, **settings: Any) -> Run:
    state = state_of(model_without_noise())
    state.max_iters = max_iters
    return Run(state, **settings)


def saves(run: Run) -> list[str]:
    return [event for event in run.events if not event.startswith("step")]


def test_evaluations_and_saves_come_as_they_are_due() -> None:
    run = run_of(7, mious={2: 0.3, 4: 0.2, 6: 0.4, 7: 0.1})
    run.fit()
    assert saves(run) == [
        "evaluate 2",
        "save 2 best",
        "save 3",
        "evaluate 4",
        "evaluate 6",
        "save 6 best",
        "evaluate 7",
        "save 7 needed",
    ]
    assert run.state.best["step"] == 6


def test_no_batch_is_asked_for_after_the_last_step() -> None:
    """A process whose loader takes longer to end would wait there for a step of all."""
    run = run_of(3)
    run.fit()
    assert [event for event in run.events if event.startswith("step")] == ["step 1", "step 2"]


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGTERM, PreemptedError), (signal.SIGUSR1, PreemptedError), (signal.SIGINT, StoppedError)],
)
def test_a_stop_in_an_evaluation_saves_at_once_and_the_evaluation_is_made_up_for(
    number: int, error: type[Exception]
) -> None:
    run = run_of(4, on_evaluate=lambda: os.kill(os.getpid(), number))
    with pytest.raises(error, match="saved at step 2"):
        run.fit()
    assert saves(run) == ["save 2 needed"]
    run.on_evaluate = lambda: None
    run.fit()
    assert saves(run)[1:] == ["evaluate 2", "save 2 best", "save 3", "evaluate 4", "save 4 needed"]


def test_a_stop_in_the_last_evaluation_is_not_the_end_of_the_run() -> None:
    run = run_of(2, on_evaluate=lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(PreemptedError):
        run.fit()
    run.on_evaluate = lambda: None
    run.fit()
    assert saves(run) == ["save 2 needed", "evaluate 2", "save 2 best needed"]


def test_a_stop_before_an_evaluation_does_not_wait_for_it() -> None:
    run = run_of(4, on_update=lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(PreemptedError):
        run.fit(eval_every=1)
    assert saves(run) == ["save 1 needed"]


# --- steps whose reports come late --------------------------------------------------------------------------


def poison_step(run: Run, number: int) -> None:
    forward_loss = run.state.forward_loss

    def poisoned(*batch: Any) -> Any:
        loss = forward_loss(*batch)
        return loss * float("nan") if run.state.step == number - 1 else loss

    run.state.forward_loss = poisoned  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(("number", "enqueued"), [(1, 2), (3, 3), (4, 5), (6, 6)])
def test_a_step_that_is_not_finite_is_reported_with_the_next_and_never_saved(
    number: int, enqueued: int
) -> None:
    """Steps 3 and 6 are saved, so they are reported before."""
    run = run_of(7)
    poison_step(run, number)
    with pytest.raises(DivergedError, match=f"the loss is nan at step {number},"):
        run.fit(eval_every=100)
    assert run.state.step == enqueued
    assert saves(run) == [f"save {step}" for step in (3, 6) if step < number]


def test_a_checkpoint_after_a_stop_knows_all_of_its_steps() -> None:
    run = run_of(7)
    poison_step(run, 2)
    take_step = run.state.take_step

    def take_step_and_ask(left_out: torch.Tensor) -> None:
        take_step(left_out)
        if run.state.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    run.state.take_step = take_step_and_ask  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="at step 2"):
        run.fit(eval_every=100)
    assert saves(run) == []


class Steps(Log):
    """Notes each step and its seconds."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.seconds: list[float] = []

    def step(self, update: Update) -> None:
        self.steps.append(update.step)
        self.seconds.append(update.seconds)


def test_every_step_is_logged_once_and_in_order() -> None:
    run, log = run_of(7), Steps()
    run.fit(log=log)
    assert log.steps == [1, 2, 3, 4, 5, 6, 7]
    assert min(log.seconds) > 0.001  # each its own, also where two are reported together


def test_no_step_is_lost_where_the_data_end_in_an_error() -> None:
    run = run_of(4)
    given = run.batches()

    def batches() -> Any:
        yield next(given)
        yield next(given)
        raise DataError("broken.png cannot be read")

    run.batches = batches  # type: ignore[method-assign]
    log = Steps()
    with pytest.raises(DataError, match=r"broken.png"):
        run.fit(eval_every=100, log=log)
    assert saves(run) == ["save 2"]
    assert log.steps == [1, 2]
    assert min(log.seconds) > 0.001  # of the last step too, else it would seem to take no time


# --- data that does not arrive ------------------------------------------------------------------------------


def test_a_signal_is_heard_while_the_loop_waits_for_data() -> None:
    run = run_of(4)
    given = run.batches()

    def batches() -> Any:
        yield next(given)
        yield None
        os.kill(os.getpid(), signal.SIGTERM)
        yield None
        pytest.fail("it still waits")

    run.batches = batches  # type: ignore[method-assign]
    with pytest.raises(PreemptedError, match=r"SIGTERM received: saved at step 1$"):
        run.fit()
    assert saves(run) == ["save 1 needed"]
    run.batches = lambda: given  # type: ignore[method-assign]
    run.fit()
    assert run.state.finished


def test_the_last_step_is_logged_while_the_loop_waits_for_data() -> None:
    run, log = run_of(2), Steps()
    given = run.batches()

    def batches() -> Any:
        yield next(given)
        assert log.steps == []
        yield None
        assert log.steps == [1]
        yield next(given)

    run.batches = batches  # type: ignore[method-assign]
    run.fit(log=log, eval_every=100)
    assert log.steps == [1, 2]


def test_a_signal_before_the_first_batch_saves_step_0() -> None:
    run = run_of(4)

    def batches() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        yield None

    run.batches = batches  # type: ignore[method-assign]
    with pytest.raises(StoppedError, match="saved at step 0"):
        run.fit()


class Lines(Log):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_long_wait_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run, log = run_of(2), Lines()
    given = run.batches()

    def batches() -> Any:
        yield next(given)
        yield from [None] * 200
        yield next(given)

    run.batches = batches  # type: ignore[method-assign]
    run.fit(log=log)
    assert len(log.lines) == 1
    assert log.lines[0].startswith("step 2 has waited 60 s for data: the disk is very slow")
    assert run.state.finished


def test_a_signal_between_the_passes_of_a_step_undoes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(4)
    run.state.accumulate = 2
    passes = 0
    forward_loss = run.state.forward_loss

    def counted(*arguments: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes == 3:  # the first of step 2
            os.kill(os.getpid(), signal.SIGUSR1)
        return forward_loss(*arguments)

    monkeypatch.setattr(run.state, "forward_loss", counted)
    with pytest.raises(PreemptedError, match="saved at step 1"):
        run.fit()
    assert passes == 3
