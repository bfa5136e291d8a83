"""What the report of a run or of an evaluation is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.doctor import Alarm
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.record.record import Predictions, Record
from deeplabx.report.page import Cell


class History(NamedTuple):
    """The lines of metrics.jsonl, in their order: those of training steps, with a loss, and those of
    evaluations, with a mIoU.
    """

    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]


@dataclass(frozen=True)
class Facts:
    """What is known of a run, or of an evaluation outside one. What is not known is None or empty, and the
    report is made without it.

    metrics: of the record; without one, of result.json. samples: the split that was evaluated, for its
    images; None where they cannot be read, and `no_images` says why. problems: sentences about files that
    cannot be used, or do not belong together. cost, variants, environment: as their files hold them.
    """

    title: str
    words: str  # below the title
    is_run: bool
    level: str  # of the status: error, warning, note or good
    status: str
    metrics: Metrics | None = None
    step: int | None = None  # of the weights that were evaluated
    record: Record | None = None
    predictions: Predictions | None = None
    samples: ReadableSet | None = None
    no_images: str = ""
    history: History = History([], [])
    alarms: Sequence[Alarm] = ()
    unreadable: Sequence[str] = ()
    problems: Sequence[str] = ()
    settings: Sequence[tuple[str, Cell]] = ()  # with which it was evaluated
    commands: Sequence[tuple[str, str]] = ()  # what each does, and its command line
    cost: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    origin: Sequence[tuple[str, Cell]] = ()
    again: str = ""  # the command line that repeats it
    config: str = ""  # the whole config, as YAML
    batch_size: int | None = None
    seconds: float | None = None  # that the run took
