"""What a tracker does. A run calls it in its main process only."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.errors import DeeplabxError

# How a run ends: finished, stopped by a signal (it can be resumed), failed.
DONE, STOPPED, FAILED = "done", "stopped", "failed"


@dataclass(frozen=True)
class Run:
    """A run that begins or continues.

    config: each setting by its dotted key, `tracker`'s own left out. matters: the keys of those that tell
    runs apart. first_step: the step that it continues from, 0 for one that begins.
    """

    name: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    matters: Sequence[str] = ()
    first_step: int = 0

    @property
    def group(self) -> str:
        """What the run belongs to: the folder of a sweep, or of the runs of one data set and model."""
        return self.folder.absolute().parent.name


class Tracker:
    """A tracker that records nothing, and what the others extend.

    `begin` raises ConfigError or ResourceError where it cannot start, for which the run does not begin. An
    error of any other method costs a line in the log, never the run. All are called in one thread after the
    other, `begin` in the main one.
    """

    name = "none"
    say: Callable[[str], object] = print  # writes a line to the run's log, once it is open
    # After `begin`: where the run is recorded and how that is opened, a line for the log.
    where = ""
    # After `begin`: of a record that is continued, the last step that it has, by the first part of a value's
    # name, "train" and "eval". What it has is not given again; what it lacks is, from metrics.jsonl.
    recorded: Mapping[str, int] = {}

    def begin(self, run: Run) -> None:
        """Called before the first step, of a run that is resumed too: it continues the same record."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Finite values of a step by name, such as train/loss, eval/miou or iou/car. The steps of names with
        the same first part increase.
        """

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """uint8 RGB H x W x 3."""

    def text(self, name: str, words: str) -> None:
        """A text of the run, such as config.yaml; a later one of the same name replaces it."""

    def summary(self, values: Mapping[str, float]) -> None:
        """The result of a finished run: best_miou and best_step."""

    def end(self, status: str) -> None:
        """status: DONE, STOPPED or FAILED."""


def in_a_line(error: BaseException) -> str:
    """What a tracker's own package says, as one line; without a password in an address."""
    if isinstance(error, DeeplabxError):
        return error.message
    words = re.sub(r"(?<=://)[^/@\s]*@", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {words}"[:220] if words else type(error).__name__
