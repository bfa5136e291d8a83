"""What looks wrong in a run while it trains: each kind is said once, with what to do about it.

The rules are wide, so that a healthy run is silent, a short one too: benchmarks/run_doctor.py plants each
fault, and runs healthy trainings beside them.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from deeplabx.dataset.json_file import number, read_json
from deeplabx.engine import durable
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.state import Update
from deeplabx.errors import DataError, listed, printable, quoted

ALARMS = "alarms.json"  # in a run's folder
MOST_BYTES = 1 << 20  # of it: each kind of alarm is there once
WINDOW = 20  # steps whose losses and gradient norms are taken together
FEWEST_STEPS = 200  # before which little can be said of what a run has learned
FALLING = 0.97  # loss of the newest steps / of the first ones, above which it is not falling
GROWING = 20.0  # gradient norm of the newest steps / of the first ones
LEARNED = 0.5  # IoU from which on a loss need not fall, and from which on a class counts as learned
IMPROVED = 0.02  # of mIoU since the first evaluation
WAITING, WAITING_SECONDS = 0.3, 20.0  # share of the time, and how long, until waiting for data is said
LR_FACTOR = 10.0  # between the learning rate and the recommended one
FEW_IN_NORM = 4  # images; v3, section 4.1, trains batch norm with 16
LABELLED = 0.001  # of the pixels: a class with fewer may be missed
UNLIKE = 0.4  # half the summed difference of the classes' shares in two splits; CamVid's splits: 0.16
FEWEST_IMAGES = 10  # of a split whose shares are compared
BATCHES = 64  # whose labels give the training split's shares
STRIDE = 4  # every 4th row and column of them


class Alarm(NamedTuple):
    """Something that looks wrong. kind: its name in alarms.json; hint: what to do."""

    step: int
    kind: str
    message: str
    hint: str

    @property
    def words(self) -> str:
        return f"warning: {self.message}; {self.hint}"


class RunDoctor:
    """Looks at the numbers of a run as they come. Each method returns the alarms that are new.

    classes, max_iters, ignore_index: of the run. known: kinds that were said before, of a run that continues.
    Losses and gradients are compared within one start of a run: the first steps of a resumed one are not its
    beginning.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        max_iters: int,
        ignore_index: int,
        first_step: int = 0,
        known: Iterable[str] = (),
    ) -> None:
        self.classes, self.max_iters, self.ignore_index = classes, max_iters, ignore_index
        self.known = set(known)
        self.from_beginning = first_step == 0
        self.losses: list[float] = []  # mean of each window
        self.norms: list[float] = []  # median of each window
        self.window: list[Update] = []
        self.waited, self.waited_of = 0.0, 0.0  # seconds, of those of the log's lines in a row that waited
        self.predicted = np.zeros(len(classes), bool)  # classes that any evaluation has predicted
        self.first_miou: float | None = None
        self.label_pixels = np.zeros(len(classes), np.int64)  # of the training split
        self.batches = 0

    def new(self, step: int, kind: str, message: str, hint: str) -> list[Alarm]:
        if kind in self.known:
            return []
        self.known.add(kind)
        return [Alarm(step, kind, message, hint)]

    # --- before the first step ------------------------------------------------------------------------------

    def learning_rate(
        self, lr: float, recommended: float, of: str, usual: int, *, batch_size: int
    ) -> list[Alarm]:
        """Of a run whose batch has `batch_size` images. recommended: of `of`, for batches of `usual`."""
        ratios = (lr / recommended, lr / recommended * usual / batch_size)
        if min(ratios) > LR_FACTOR:
            factor, way = min(ratios), "larger"
        elif max(ratios) < 1 / LR_FACTOR:
            factor, way = 1 / max(ratios), "smaller"
        else:
            return []
        return self.new(
            0,
            "learning_rate",
            f"optimizer.lr={lr:g} is {factor:.3g} times {way} than what {of} is trained with "
            f"({recommended:g} for batches of {usual})",
            f"try optimizer.lr={recommended * batch_size / usual:.2g}",
        )

    def norm(self, images: int, *, trained_norms: int) -> list[Alarm]:
        """images: that a batch norm sees at once; trained_norms: batch norms that use them."""
        if not trained_norms or images >= FEW_IN_NORM:
            return []
        return self.new(
            0,
            "norm_batch",
            f"batch norm sees {images} image{'s' if images > 1 else ''} at a time: its statistics are noise",
            "set a larger trainer.batch_size, a smaller trainer.accumulate, model.norm=group, or "
            "model.norm=frozen with pretrained weights",
        )

    # --- steps ----------------------------------------------------------------------------------------------

    def batch(self, labels: np.ndarray) -> None:
        """Count the labels N x H x W of one of the first batches."""
        if self.batches < BATCHES:
            self.batches += 1
            some = labels[:, ::STRIDE, ::STRIDE]
            valid = some[some != self.ignore_index]
            self.label_pixels += np.bincount(valid.ravel(), minlength=len(self.classes))

    def step(self, update: Update) -> list[Alarm]:
        if update.skipped or update.valid == 0:
            return []
        self.window.append(update)
        if len(self.window) < WINDOW:
            return []
        self.losses.append(sum(one.loss for one in self.window) / WINDOW)
        self.norms.append(median(one.gradient_norm for one in self.window))
        self.window = []
        return self.gradient(update.step) if self.from_beginning else []

    def gradient(self, step: int) -> list[Alarm]:
        if len(self.norms) < 8:
            return []
        first, newest = median(self.norms[:4]), min(self.norms[-3:])
        if not (first > 0 and newest > GROWING * first and self.norms[-1] > self.norms[-3]):
            return []
        return self.new(
            step,
            "gradient",
            f"the gradient's norm has grown from {first:.3g} to {self.norms[-1]:.3g}: the run may diverge",
            "try a smaller optimizer.lr, trainer.clip_norm=10 or schedule.warmup_iters=100",
        )

    def data_wait(self, step: int, *, wait: float, seconds: float) -> list[Alarm]:
        """wait: seconds of the `seconds` since the log's last line in which the device had no data."""
        if wait < WAITING * seconds:
            self.waited = self.waited_of = 0.0
            return []
        self.waited, self.waited_of = self.waited + wait, self.waited_of + seconds
        if self.waited_of < WAITING_SECONDS:
            return []
        return self.new(
            step,
            "data_wait",
            f"{self.waited / self.waited_of:.0%} of the last {self.waited_of:.0f} s were waiting for data",
            "try a larger trainer.workers, smaller image files or a faster disk",
        )

    # --- evaluations ----------------------------------------------------------------------------------------

    def evaluation(self, step: int, result: Metrics, *, split: str) -> list[Alarm]:
        assert result.confusion is not None
        confusion = result.confusion.numpy()
        labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        self.predicted |= predicted > 0
        first = result.miou if self.first_miou is None else self.first_miou
        self.first_miou = first
        return [
            *self.classes_found(step, labelled, predicted, result, split=split),
            *self.loss(step, miou=result.miou, first_miou=first),
            *self.label_shares(step, labelled, split=split, images=result.images),
        ]

    def classes_found(
        self, step: int, labelled: np.ndarray, predicted: np.ndarray, result: Metrics, *, split: str
    ) -> list[Alarm]:
        """Whether all pixels have one class, or a class has none."""
        if step < FEWEST_STEPS:
            return []
        common = labelled > LABELLED * labelled.sum()
        if (predicted > 0).sum() == 1 and common.sum() > 1:
            only = self.classes[int(predicted.argmax())]
            return self.new(
                step,
                "one_class",
                f"every pixel of {split} is predicted as {only}",
                "look at samples/ and at deeplabx data check; try pretrained weights (backbone.weights or "
                "init_from), another optimizer.lr, or loss.class_balance",
            )
        missed = [self.classes[index] for index in np.flatnonzero(common & ~self.predicted).tolist()]
        others = [result.per_class_iou[name] or 0.0 for name in self.classes if name not in missed]
        if not missed or step < self.max_iters / 2 or median(others) < LEARNED:
            return []  # a run that has not learned the other classes yet may find these too
        return self.new(
            step,
            "class_missed",
            f"no evaluation has predicted {listed(missed)}",
            "if longer training does not help: loss.class_balance, augment.class_sampling, or check that the "
            "training split labels it (deeplabx data stats)",
        )

    def loss(self, step: int, *, miou: float, first_miou: float) -> list[Alarm]:
        if not self.from_beginning or len(self.losses) * WINDOW < FEWEST_STEPS:
            return []
        part = max(2, len(self.losses) // 5)
        first, newest = (float(np.mean(some)) for some in (self.losses[:part], self.losses[-part:]))
        if newest < FALLING * first or miou >= LEARNED or miou > first_miou + IMPROVED:
            return []
        return self.new(
            step,
            "loss",
            f"the loss is not falling: {first:.3g} at first, {newest:.3g} now",
            "try another optimizer.lr (larger or smaller by 10), and look at the labels: deeplabx data check",
        )

    def label_shares(self, step: int, labelled: np.ndarray, *, split: str, images: int) -> list[Alarm]:
        if images < FEWEST_IMAGES or self.batches < min(BATCHES, 10) or not self.label_pixels.any():
            return []
        training, evaluated = (pixels / pixels.sum() for pixels in (self.label_pixels, labelled))
        difference = float(np.abs(training - evaluated).sum() / 2)
        if difference < UNLIKE:
            return []
        most = int(np.abs(training - evaluated).argmax())
        return self.new(
            step,
            "label_shares",
            f"the labels of {split} are unlike those of training: {self.classes[most]} has "
            f"{training[most]:.1%} of the training pixels and {evaluated[most]:.1%} of {split}'s",
            "check that both splits use the same ids for the same classes: deeplabx data stats",
        )


# --- alarms.json --------------------------------------------------------------------------------------------


def read_alarms(path: Path) -> list[Alarm]:
    """The alarms in a run's alarms.json. Raises DataError for what no run writes."""
    found = read_json(path, most_bytes=MOST_BYTES)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{path} must hold a list of objects")
    alarms = []
    for one in found:
        step, words = number(one.get("step")), [one.get(name) for name in ("kind", "message", "hint")]
        if step is None or not all(isinstance(word, str) for word in words):
            raise DataError(f"{path} holds {quoted(one)}, which is no alarm of a run")
        alarms.append(Alarm(int(step), *map(printable, words)))
    return alarms


def alarms_of(folder: Path) -> list[Alarm]:
    """The alarms of the run in `folder`. None where the file cannot be read: what it lacks is said again."""
    try:
        return read_alarms(folder / ALARMS) if (folder / ALARMS).is_file() else []
    except DataError:
        return []


def write_alarms(folder: Path, alarms: Sequence[Alarm]) -> None:
    """Add alarms to those of the run in `folder`."""
    plain = [alarm._asdict() for alarm in (*alarms_of(folder), *alarms)]
    durable.replace(folder / ALARMS, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
