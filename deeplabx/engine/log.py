"""The log of a run: a progress bar (plain lines without a terminal), train.log, metrics.jsonl, TensorBoard
and the run's tracker. Only the main process logs.
"""

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from deeplabx.dataset.loader import LoadTime
from deeplabx.engine.doctor import Alarm, RunDoctor, write_alarms
from deeplabx.engine.durable import escaped, replace, utf8_name
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.state import Update
from deeplabx.errors import PreemptedError, StoppedError
from deeplabx.process.terminal import shown
from deeplabx.tracker.contract import DONE, FAILED, STOPPED, Run, Tracker
from deeplabx.tracker.tensorboard import TensorBoard

T = TypeVar("T")
WAIT_HINT = 0.10  # share of time spent waiting for data above which the log gives a hint


class Log:
    """A log that discards everything, for all processes but the main one."""

    terminal = False

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        return iter(batches)

    def step(self, update: Update) -> None:
        pass

    def unrepeatable(self, operators: set[str]) -> None:
        pass

    def evaluation(self, step: int, result: Metrics) -> None:
        pass

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        pass

    def text(self, name: str, words: str) -> None:
        pass

    def result(self, best: Mapping[str, Any]) -> None:
        pass

    def unreadable(self, files: Iterable[str]) -> None:
        pass

    def loaded(self, load_time: LoadTime) -> None:
        pass

    def alarm(self, alarms: Sequence[Alarm]) -> None:
        pass

    def closing(self, workers: int, *, cores: float) -> None:
        pass


class RunLog(Log):
    """The log of one run, as a context manager. After a resume it continues from the checkpoint's step: later
    lines are removed.

    On a full disk lines are lost, with one warning; the run continues.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        max_iters: int,
        batch_size: int,
        log_every: int,
        doctor: RunDoctor | None = None,
        tracked: Run | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        """tracked: the run as trackers know it. tracker: one that has begun, beside TensorBoard."""
        self.path = folder / "metrics.jsonl"
        self.unreadable_path = folder / "unreadable.txt"
        self.complained = False
        keep_lines_up_to(self.path, first_step)
        self.metrics_file = self.path.open("a", buffering=1, encoding="utf-8")
        self.text_file = (folder / "train.log").open("a", buffering=1, encoding="utf-8")
        self.tracker, self.tensorboard = tracker or Tracker(), TensorBoard(utf8_name)
        self.tracker.say = self.say
        self.tensorboard.begin(tracked or Run(folder.name, folder, first_step=first_step))
        self.terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=max_iters, initial=first_step, unit="it", disable=not self.terminal, dynamic_ncols=True
        )
        self.max_iters, self.batch_size, self.log_every = max_iters, batch_size, log_every
        self.miou: float | None = None
        self.wait = self.compute = 0.0  # seconds since the last logged step
        self.idle: float | None = None  # of a GPU, in the same time; None on a CPU
        self.said_unrepeatable: set[str] = set()
        self.total_wait = self.total_compute = 0.0
        self.batches, self.load_time = 0, LoadTime()
        self.doctor = doctor  # looks at each step
        self.logged_step = first_step

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        stopped = isinstance(error[1], StoppedError | PreemptedError | KeyboardInterrupt)
        status = DONE if error[1] is None else STOPPED if stopped else FAILED
        self.tracker.end(status)
        with self.whatever_the_disk_says():
            self.tensorboard.end(status)
        for file in (self.metrics_file, self.text_file):
            with self.whatever_the_disk_says():
                file.close()

    @contextmanager
    def whatever_the_disk_says(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.complained:
                tqdm.write(
                    f"the log cannot be written: {error.strerror}; some lines will be missing",
                    file=sys.stderr,
                )
            self.complained = True

    def say(self, text: str) -> None:
        """Print a line and write it to train.log."""
        text = escaped(text)  # a folder's or a class's name may not be
        stream = sys.stderr if self.terminal else sys.stdout
        tqdm.write(shown(text, stream), file=stream)
        sys.stdout.flush()
        with self.whatever_the_disk_says():
            self.text_file.write(text + "\n")

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches. The time waiting for each is measured; the time between them counts as compute."""
        iterator = iter(batches)
        while True:
            begin = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.wait += time.perf_counter() - begin
            yield batch

    def step(self, update: Update) -> None:
        """Record one update; every `log_every` steps, log it."""
        self.compute += update.seconds
        if update.idle is not None:
            self.idle = (self.idle or 0.0) + update.idle
        self.bar.update()
        if update.skipped:
            self.say(f"step {update.step}: loss or gradient was not finite ({update.loss}); step skipped")
        if update.valid == 0:
            self.say(f"step {update.step}: the batch has no labelled pixels, so its loss is 0")
        if self.doctor is not None:
            self.alarm(self.doctor.step(update))
        if update.step % self.log_every and update.step != self.max_iters:
            return
        steps = max(1, update.step - self.logged_step)
        seconds = max(1e-9, self.wait + self.compute)
        # A GPU still computes while the host waits for the next batch: it lacks data only when it is idle.
        wait = self.wait if self.idle is None else min(self.wait, self.idle)
        values = {
            "loss": update.loss if math.isfinite(update.loss) else None,
            "lr": update.lr,
            "images_per_second": steps * self.batch_size / seconds,
            "data_wait": wait / seconds,
        }
        self.write_line(update.step, rounded(values))
        self.track(update.step, {f"train/{name}": value for name, value in values.items()})
        self.bar.set_postfix_str(self.words(values))
        if not self.terminal:
            seconds_left = (self.max_iters - update.step) * seconds / steps
            self.say(f"step {update.step}/{self.max_iters}  {self.words(values)}  ETA {seconds_left:.0f} s")
        if self.doctor is not None:
            self.alarm(self.doctor.data_wait(update.step, wait=wait, seconds=seconds))
        self.total_wait, self.total_compute = self.total_wait + wait, self.total_compute + seconds - wait
        self.wait = self.compute = 0.0
        self.idle = None
        self.logged_step = update.step

    def unrepeatable(self, operators: set[str]) -> None:
        """Name operators whose results may differ from run to run, each once."""
        new = operators - self.said_unrepeatable
        self.said_unrepeatable |= new
        if new:
            self.say(
                f"two runs may differ: torch has no deterministic GPU kernel for {', '.join(sorted(new))}"
            )

    def alarm(self, alarms: Sequence[Alarm]) -> None:
        """Say what looks wrong, and add it to alarms.json."""
        for one in alarms:
            self.say(one.words)
        if alarms:
            with self.whatever_the_disk_says():
                write_alarms(self.path.parent, alarms)

    def words(self, values: dict[str, float | None]) -> str:
        miou = "" if self.miou is None else f"  mIoU {self.miou:.4f}"
        loss = "not finite" if values["loss"] is None else f"{values['loss']:.4f}"
        return f"loss {loss}  lr {values['lr']:.2e}{miou}  {values['images_per_second']:.1f} images/s"

    def evaluation(self, step: int, result: Metrics) -> None:
        self.miou = result.miou
        whole = {name: value for name, value in result.to_plain().items() if isinstance(value, float)}
        per_class = result.per_class_iou
        self.write_line(step, {**rounded(whole), "per_class_iou": rounded(per_class)})
        self.track(
            step,
            {
                **{f"eval/{name}": value for name, value in whole.items()},
                **{f"iou/{name}": value for name, value in per_class.items()},
            },
        )
        self.say(f"step {step}: mIoU {result.miou:.4f}, pixel accuracy {result.pixel_accuracy:.4f}")

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Show an image of a step in TensorBoard and the tracker: uint8 RGB H x W x 3."""
        self.tracker.image(step, name, image)
        with self.whatever_the_disk_says():
            self.tensorboard.image(step, name, image)

    def text(self, name: str, words: str) -> None:
        self.tracker.text(name, words)
        with self.whatever_the_disk_says():
            self.tensorboard.text(name, words)

    def result(self, best: Mapping[str, Any]) -> None:
        """The best evaluation of a run that is finished."""
        values = {"best_miou": float(best["miou"]), "best_step": float(best["step"])}
        self.tracker.summary(values)
        with self.whatever_the_disk_says():
            self.tensorboard.summary(values)

    def unreadable(self, files: Iterable[str]) -> None:
        """List files that could not be read and were skipped, each once."""
        path = self.unreadable_path
        known = path.read_text(encoding="utf-8", errors="backslashreplace") if path.is_file() else ""
        new = sorted({escaped(words) for words in files} - set(known.splitlines()))
        if not new:
            return
        with self.whatever_the_disk_says(), path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{words}\n" for words in new))
        self.say(f"skipped {len(new)} unreadable files, the first: {new[0]}; all are listed in {path}")

    def write_line(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with self.whatever_the_disk_says():
            self.metrics_file.write(json.dumps({"step": step, **values}) + "\n")

    def track(self, step: int, values: Mapping[str, float | None]) -> None:
        there = {name: value for name, value in values.items() if value is not None}
        self.tracker.scalars(step, there)
        with self.whatever_the_disk_says():
            self.tensorboard.scalars(step, there)

    def loaded(self, load_time: LoadTime) -> None:
        """Record how long a batch took to be read and augmented."""
        self.batches, self.load_time = self.batches + 1, self.load_time.plus(load_time)

    def closing(self, workers: int, *, cores: float) -> None:
        """Log where the time went. workers, cores: of this process."""
        self.say(self.data_wait_words(workers, cores=cores))

    def data_wait_words(self, workers: int, *, cores: float) -> str:
        """Where the time went, with a hint if the device waited for data."""
        total = max(1e-9, self.total_wait + self.total_compute)
        share = self.total_wait / total
        words = (
            f"time: {self.total_compute:.0f} s computing, {self.total_wait:.0f} s ({share:.0%}) "
            "waiting for data"
        )
        if share <= WAIT_HINT:
            return words
        whole, step = max(1, int(cores)), max(1e-9, self.total_compute / max(1, self.batches))
        in_step = [math.ceil(one / max(1, self.batches) / step) for one in self.load_time]
        needed, computing = min(in_step[0], whole), in_step[1]
        if computing > whole:
            words += f"; reading and augmenting at that rate needs {computing} cores, and there are {whole}"
        return f"{words}; try trainer.workers={needed}" if needed > workers else words


def rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value if value is None else round(value, 8) for name, value in values.items()}


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, which a resumed run writes again."""
    if path.is_file():
        kept = [
            line
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if line.endswith("\n") and json.loads(line)["step"] <= step
        ]
        replace(path, "".join(kept))
