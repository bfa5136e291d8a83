"""Reads the files in the folder of a run or of an evaluation. A file that is damaged is a sentence in the
report, which is made without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deeplabx.dataset.json_file import number, read_object
from deeplabx.engine.doctor import ALARMS, Alarm, read_alarms
from deeplabx.engine.metrics import Metrics, metrics
from deeplabx.engine.record.record import IMAGES, Predictions, Record
from deeplabx.errors import CheckpointError, DataError, quoted
from deeplabx.report.metrics_file import read_lines
from deeplabx.report.run_page.facts import History

MOST_BYTES = 16 << 20  # of a JSON file
COST, VARIANTS, RESULT, EVALUATION = "cost.json", "variants.json", "result.json", "evaluation.json"
SUMMARY = ("miou", "miou_gt_only", "pixel_accuracy", "mean_class_accuracy", "frequency_weighted_iou")


@dataclass
class Files:
    """What the files say. problems: sentences about those that cannot be used."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    history: History = field(default_factory=lambda: History([], []))
    record: Record | None = None
    predictions: Predictions | None = None
    metrics: Metrics | None = None
    step: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "Files":
        found = cls(folder)
        for name in ("result", "cost", "variants", "environment"):
            setattr(found, name, found.tried(read_object, folder / f"{name}.json", {}))
        found.alarms = found.tried(lambda path, **_: read_alarms(path), folder / ALARMS, [])
        found.history = found.tried(found.read_history, folder / "metrics.jsonl", History([], []))
        found.record = found.tried(lambda path, **_: Record.read(path.parent), folder / IMAGES, None)
        if found.record is not None:
            found.predictions = found.tried(lambda path, **_: Predictions(path.parent), folder / IMAGES, None)
        found.find_metrics()
        return found

    def tried(self, read: Callable[..., Any], path: Path, otherwise: Any) -> Any:
        """What `read` makes of a file; `otherwise` where there is none, or where it is damaged."""
        if not path.is_file():
            return otherwise
        try:
            return read(path, most_bytes=MOST_BYTES)
        except (DataError, CheckpointError) as error:
            self.problems.append(error.message)
            return otherwise

    def find_metrics(self) -> None:
        """Metrics and step of the record, else of result.json; whether both are of one evaluation."""
        own = of_plain(self.result)
        step = number(self.result.get("step"))
        if self.record is None:
            self.metrics, self.step = own, None if step is None else int(step)
            if self.result and own is None:
                self.problems.append(f"{self.folder / RESULT} is not what an evaluation writes")
            return
        try:
            self.metrics = metrics(torch.from_numpy(self.record.counts.confusion()), self.record.classes)
        except DataError as error:
            self.problems.append(f"{self.folder / IMAGES}: {error.message}")
            self.record = None
            return
        self.step = self.record.step
        before = self.result.get("confusion_sha256")
        if self.result and before != self.metrics.confusion_sha256:
            self.problems.append(
                f"{RESULT} and {IMAGES} are of different evaluations: their confusion matrices differ "
                f"(confusion_sha256 {str(before)[:12]}, {self.metrics.confusion_sha256[:12]}), and so do "
                f"their mIoU ({words(self.result.get('miou'))}, {self.metrics.miou:.4f}). This page shows "
                f"{IMAGES}."
            )

    def read_history(self, path: Path, *, most_bytes: int) -> History:
        """most_bytes: of other files; the lines of a long run are more."""
        lines, damaged = read_lines(path)
        if damaged:
            self.problems.append(f"{path}: {damaged} lines cannot be read, and are left out of the curves")
        evaluations = [one for one in lines if "miou" in one]
        return History([one for one in lines if "loss" in one and "miou" not in one], evaluations)


def words(value: Any) -> str:
    found = number(value)
    return quoted(value) if found is None else f"{found:.4f}"


def of_plain(plain: dict[str, Any]) -> Metrics | None:
    """The metrics that result.json holds; None for anything else."""
    values = {name: number(plain.get(name)) for name in SUMMARY}
    per_class, absent = plain.get("per_class_iou"), plain.get("absent", [])
    unreadable, images = plain.get("unreadable", []), number(plain.get("images"))
    if (
        None in values.values()
        or images is None
        or not isinstance(per_class, dict)
        or not all(value is None or number(value) is not None for value in per_class.values())
        or not (isinstance(absent, list) and isinstance(unreadable, list))
    ):
        return None
    return Metrics(
        **values,  # type: ignore[arg-type]
        per_class_iou={str(name): number(value) for name, value in per_class.items()},
        absent=[str(one) for one in absent],
        confusion_sha256=str(plain.get("confusion_sha256", "")),
        images=int(images),
        unreadable=[str(one) for one in unreadable],
    )
