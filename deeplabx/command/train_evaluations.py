"""The evaluations of a training, and what is kept, drawn, tracked and reported of each."""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from deeplabx.command.job import Watch
from deeplabx.config import schema
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import SampleReader
from deeplabx.engine.doctor import RunDoctor
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.log import Log
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.record.recorder import Recorder
from deeplabx.engine.saver import Saver
from deeplabx.engine.state import TrainState
from deeplabx.errors import DataError, resource_error
from deeplabx.process.distributed import broadcast_buffers, gathered, is_main
from deeplabx.process.signals import StopRequest
from deeplabx.report.background import Background
from deeplabx.report.confusion import confusion_figure
from deeplabx.report.curves import import_matplotlib
from deeplabx.report.samples import SamplePanels
from deeplabx.run.evaluation import cost_of, keep_previous, recorder_of, write_evaluation
from deeplabx.run.report import Reports
from deeplabx.tracker.contract import in_a_line

CONTINUES = "training continues"


@dataclass(kw_only=True)
class Evaluations:
    """Evaluates a run's model in all its processes. The main one writes, and draws beside the training.

    unreadable: what training could not read, for the log. watch: given step and mIoU of each evaluation,
    returns whether the run is stopped.
    """

    folder: Path
    config: schema.TrainConfig
    state: TrainState
    samples: ReadableSet  # the evaluated split
    reader: SampleReader
    predictor: Predictor
    doctor: RunDoctor
    log: Log
    stop: StopRequest
    drawing: Background
    reports: Reports
    unreadable: Iterable[str]
    saver: Saver
    watch: Watch | None = None

    def run(self) -> Metrics:
        """Evaluate the weights of the current step."""
        broadcast_buffers(self.predictor.model)
        if is_main():
            self.drawing.run(import_matplotlib)  # which takes longer than to draw the curves at the end
        step, panels = self.state.step, SamplePanels(self.samples, count=self.config.trainer.samples)
        recorder, began = recorder_of(self.samples, self.config, step=step), time.perf_counter()
        result = evaluate(
            self.predictor,
            self.samples,
            reader=self.reader,
            stop=self.stop,
            progress=self.log.terminal,
            predicted_one=panels.add,
            recorder=recorder,
        )
        self.log.alarm(self.doctor.evaluation(step, result, split=self.samples.split))
        if is_main() and result.miou > self.state.best_miou:
            self.keep(recorder, seconds=time.perf_counter() - began)
        self.log.unreadable([*gathered(list(self.unreadable)), *result.unreadable])
        if is_main():
            self.draw_samples(panels)
            self.drawing.run(self.write_confusion, step, result)
            self.reports.due((step, result))
            if self.watch is not None and self.stop.number is None and self.watch(step, result.miou):
                self.stop.number = signal.SIGTERM  # the loop saves and ends, in all processes
        return result

    def keep(self, recorder: Recorder, *, seconds: float) -> None:
        """Write the record of the best evaluation so far."""

        def write() -> None:
            cost = cost_of(recorder, self.config, self.predictor)
            keep_previous(self.folder, self.saver.best_saved)
            write_evaluation(self.folder, recorder, cost | {"evaluation_seconds": seconds})

        tried(write, self.log, f"step {self.state.step}: the record of the evaluation", after=CONTINUES)

    def draw_untrained(self) -> None:
        """Draw the samples before the first step: with predictions where the head was loaded."""
        if is_main():
            self.draw_samples(SamplePanels(self.samples, count=self.config.trainer.samples))

    def draw_samples(self, panels: SamplePanels) -> None:
        trained = self.state.step > 0 or self.config.init_from is not None  # else the head is random
        panels.add_rest(self.predictor if trained else None, stop=self.stop)
        if self.stop.number is None:
            self.drawing.run(self.write_samples, self.state.step, panels)

    # --- beside the training --------------------------------------------------------------------------------

    def write_samples(self, step: int, panels: SamplePanels) -> None:
        def draw() -> None:
            sheet = panels.write(self.folder / "samples" / f"step-{step:08d}.png")
            if sheet is not None:
                self.log.image(step, "samples", sheet)

        tried(draw, self.log, f"step {step}: the samples", after=CONTINUES)

    def write_confusion(self, step: int, result: Metrics) -> None:
        if result.confusion is None:
            return
        counts, classes = result.confusion.numpy(), list(result.per_class_iou)

        def draw() -> None:
            self.log.image(step, "confusion", confusion_figure(counts, classes))

        tried(draw, self.log, f"step {step}: the confusion matrix", after=CONTINUES)


def tried(write: Callable[[], object], log: Log, what: str, *, after: str) -> None:
    """Write something for people to look at. If that fails, the log says so in a line: the training and its
    result matter more.
    """
    try:
        write()
    except Exception as error:  # noqa: BLE001 - of any library that draws
        full = error if isinstance(error, DataError) else resource_error(error)
        words = in_a_line(error) if full is None else full.message
        log.say(f"{what} could not be written: {words}; {after}")
