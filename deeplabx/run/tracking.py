"""The tracker of a run: built from its config, begun before the first step, never in training's way."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from deeplabx.config import schema
from deeplabx.config.fields import builder_settings, walk
from deeplabx.report.background import Background
from deeplabx.report.metrics_file import logged
from deeplabx.run.build import built
from deeplabx.tracker.contract import Run, Tracker, in_a_line

# What tells one run from another, beside what was overridden: the columns of a table of runs.
MATTERS = (
    "model.name",
    "model.norm",
    "backbone.name",
    "backbone.output_stride",
    "backbone.weights",
    "dataset.name",
    "augment.name",
    "augment.crop_size",
    "loss.name",
    "optimizer.name",
    "optimizer.lr",
    "optimizer.weight_decay",
    "schedule.name",
    "schedule.max_iters",
    "trainer.batch_size",
    "trainer.ema_decay",
    "init_from",
    "seed",
)


@dataclass
class Guarded(Tracker):
    """A tracker in a thread of its own, so that training does not wait for it. After its first error, which
    is said in a line, it is not called any more.
    """

    tracker: Tracker
    say: Callable[[str], object] = print
    thread: Background = field(default_factory=Background)
    failed: bool = False
    lock: Lock = field(default_factory=Lock)  # the training and what is drawn beside it both give values

    def begin(self, run: Run) -> None:
        self.tracker.begin(run)  # here, where an error still ends the command
        self.where, self.recorded = self.tracker.where, self.tracker.recorded
        for step, values in logged_values(run.folder / "metrics.jsonl"):
            if step <= run.first_step:
                self.scalars(step, values)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        part = next(iter(values), "").partition("/")[0]
        if step > self.recorded.get(part, -1):
            self.give(f"step {step}", self.tracker.scalars, step, dict(values))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.give(f"step {step}", self.tracker.image, step, name, image)

    def text(self, name: str, words: str) -> None:
        self.give(name, self.tracker.text, name, words)

    def summary(self, values: Mapping[str, float]) -> None:
        self.give("the result", self.tracker.summary, dict(values))

    def end(self, status: str) -> None:
        """Wait until all that was given is recorded, or the tracker has failed."""
        self.give("the end", self.tracker.end, status)
        self.thread.__exit__(None, None, None)

    def give(self, what: str, method: Callable[..., None], *arguments: Any) -> None:
        with self.lock:
            self.thread.run(self.attempt, what, method, *arguments)

    def attempt(self, what: str, method: Callable[..., None], *arguments: Any) -> None:
        if self.failed:
            return
        self.tracker.say = self.say
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training matters more
            self.failed = True
            self.say(
                f"{what}: the tracker {self.tracker.name} failed, and records nothing more of this run: "
                f"{in_a_line(error)}; training continues"
            )


def tracker_of(config: schema.TrainConfig) -> Tracker:
    """The tracker that a run's config names. Raises ConfigError where its package is not installed."""
    made: Tracker = built("tracker", config.tracker.name, **builder_settings(config.tracker))
    return Tracker() if type(made) is Tracker else Guarded(made)


def tracked_run(config: schema.TrainConfig, folder: Path, overrides: list[str], *, first_step: int) -> Run:
    """What trackers know of a run."""
    every = {key: value for key, value, _ in walk(config) if not key.startswith("tracker.")}
    given = [one.lstrip("+~").partition("=")[0] for one in overrides]
    named = [key if key in every else f"{key}.name" for key in given]
    matters = [key for key in dict.fromkeys([*MATTERS, *named]) if every.get(key) is not None]
    place = folder.absolute()
    return Run(
        f"{place.parent.name}/{place.name}",
        folder,
        every,
        [key for key in matters if key not in schema.FREE_ON_RESUME],
        first_step,
    )


def logged_values(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """The lines of metrics.jsonl with the names that trackers are given."""
    for line in logged(path) if path.is_file() else []:
        step, per_class = line.pop("step"), line.pop("per_class_iou", {})
        part = "train" if "lr" in line else "eval"
        values = {f"{part}/{name}": value for name, value in line.items()}
        values |= {f"iou/{name}": value for name, value in per_class.items()}
        yield step, {name: float(value) for name, value in values.items() if value is not None}
