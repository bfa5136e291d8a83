"""The training loop: its learning rate over interruptions, losses that are nothing or not finite, workers,
and a long run's memory.
"""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.chaos.commands import (
    BASE_LR,
    SHAPES,
    TINY,
    Ended,
    command,
    in_process,
    newest,
    trained,
    until,
    weights_of,
    written,
)
from benchmarks.chaos.row import Measured, Row
from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.fake import FOLDER_CLASSES, write_fake
from deeplabx.dataset.io import write_ids
from deeplabx.dataset.labels import voc_palette
from deeplabx.process.signals import StopRequest
from deeplabx.engine.state import TrainState, Update

POWER = 0.9


# --- 3: the learning rate -----------------------------------------------------------------------------------


def learning_rate(work: Path, short: bool) -> Measured:
    run, steps = work / "run", 12 if short else 100
    settings = [*TINY, *SHAPES, f"schedule.max_iters={steps}", "trainer.save_every=5"]
    if short:
        with interrupted_at(7):
            ends = [in_process(run, *settings)]
        ends.append(in_process(run, *settings, "resume=true"))
    else:
        first = ["train", *settings, f"hydra.run.dir={run}"]
        ends = []
        for step, number in (
            (17, signal.SIGTERM),
            (38, signal.SIGKILL),
            (61, signal.SIGTERM),
            (83, signal.SIGKILL),
        ):
            ends.append(
                command(
                    *(["resume", str(run)] if ends else first),
                    work=work,
                    meanwhile=signalled(run, step, number),
                )
            )
        ends.append(command("resume", str(run), work=work))
    logged = {line["step"]: line["lr"] for line in written(run) if "lr" in line}
    formula = {
        step: round(BASE_LR * (1 - min(step, steps - 1) / steps) ** POWER, 8) for step in range(1, steps + 1)
    }
    equal = sum(logged.get(step) == lr for step, lr in formula.items())
    codes = [end.code for end in ends]
    words = (
        f"{steps} steps with {len(ends) - 1} interruptions (exits {codes}): {equal} of {steps} "
        "learning rates equal to the formula"
    )
    stopped_and_done = all(code in (75, -signal.SIGKILL) for code in codes[:-1]) and codes[-1] == 0
    return Measured(words, stopped_and_done and logged == formula)


def signalled(run: Path, step: int, number: signal.Signals) -> Callable[[subprocess.Popen[str]], None]:
    """Send a signal once `step` is logged."""

    def send(process: subprocess.Popen[str]) -> None:
        until(lambda: any(line["step"] >= step for line in written(run)), process)
        process.send_signal(number)

    return send


@contextlib.contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """SIGTERM to this process while a run in it takes its `step`-th step: that is when the run listens."""

    def interrupt(state: TrainState) -> None:
        if state.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with before_each_step(interrupt):
        yield


@contextlib.contextmanager
def before_each_step(look: Callable[[TrainState], None]) -> Iterator[None]:
    update = TrainState.update

    def looked_at(
        self: TrainState, images: Tensor, labels: Tensor, *, stop: StopRequest | None = None
    ) -> Update:
        look(self)
        return update(self, images, labels, stop=stop)

    with mock.patch.object(TrainState, "update", looked_at):
        yield


# --- 10: nothing to learn from, and losses that are not finite ----------------------------------------------


def odd_losses(work: Path, short: bool) -> Measured:
    parts = [all_void(work, short), *diverging(work, short), poisoned_abort(work, short), poisoned_skip(work)]
    return Measured("; ".join(part.words for part in parts), all(part.passed for part in parts))


def all_void(work: Path, short: bool) -> Measured:
    """Of four images only one is labelled, and a batch is two: one of the two batches of an epoch holds
    nothing to learn from.
    """
    root, run, steps = work / "mostly_void", work / "void", 4 if short else 12
    write_fake("folder", root, images=4, seed=0)
    for path in sorted((root / "masks/train").iterdir())[1:]:
        write_ids(path, np.full((120, 160), IGNORE_INDEX, np.uint8), voc_palette(len(FOLDER_CLASSES)))
    ended = trained(
        run, *TINY, "dataset=folder", f"dataset.root={root}", f"schedule.max_iters={steps}", short=short
    )
    losses = {line["step"]: line["loss"] for line in written(run) if "loss" in line}
    zero = {step for step, loss in losses.items() if loss == 0}
    told = {
        int(step)
        for step in re.findall(
            r"step (\d+): no pixel of the batch is labelled", (run / "train.log").read_text()
        )
    }
    words = f"{len(told)} all-void batches in {steps} steps, loss 0 in {len(told & zero)}, {ended.words}"
    passed = (
        ended.code == 0
        and told == zero
        and len(told) == steps // 2
        and len(losses) == steps
        and None not in losses.values()
    )
    return Measured(words, passed)


def diverging(work: Path, short: bool) -> Iterator[Measured]:
    """Learning rates with which loss, or what batch norm sees, leaves the finite numbers."""
    for lr in ("1e30",) if short else ("1e30", "1e6"):
        run = work / f"lr_{lr}"
        settings = [*TINY, *SHAPES, "schedule.max_iters=200", "trainer.save_every=1", f"optimizer.lr={lr}"]
        yield aborted(trained(run, *settings, short=short), run, what=f"lr {lr}")


def aborted(ended: Ended, run: Path, *, what: str) -> Measured:
    """Whether a run ended as one must whose loss is not finite."""
    found = newest(run)
    tensors = [*found.model_tensors().values(), *found.optimizer_tensors().values()] if found else []
    finite = sum(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    words = (
        f"{what}: {ended.words}, {finite} of {len(tensors)} tensors of "
        f"{found.path.name if found else 'no checkpoint'} finite"
    )
    return Measured(words, ended.code == 7 and ended.brief and bool(tensors) and finite == len(tensors))


def poisoned_abort(work: Path, short: bool) -> Measured:
    """A sound run that meets NaN in its fifth step; its checkpoint leads to the weights of a run that never
    did.
    """
    run, sound = work / "poisoned", work / "sound"
    settings = [*TINY, *SHAPES, "schedule.max_iters=6", "trainer.save_every=2"]
    with poisoned(5):
        measured = aborted(in_process(run, *settings), run, what="NaN in step 5")
    if short:
        return measured
    codes = [in_process(run, *settings, "resume=true").code, in_process(sound, *settings).code]
    same = weights_of(run) == weights_of(sound)
    words = f"{measured.words}, {'the same' if same else 'other'} weights after a resume as without NaN"
    return Measured(words, bool(measured.passed) and same and codes == [0, 0])


def poisoned_skip(work: Path) -> Measured:
    run, steps = work / "skipped", 4
    with poisoned(2) as changed:
        ended = in_process(run, *TINY, *SHAPES, f"schedule.max_iters={steps}", "trainer.on_nonfinite=skip")
    said = "step 2: loss or gradient was not finite (nan); the step was left out" in ended.said
    logged = [line["step"] for line in written(run) if "loss" in line]
    words = (
        f"on_nonfinite=skip: {len(changed)} tensors changed by the poisoned step, {len(logged)} of "
        f"{steps} steps, {ended.words}"
    )
    return Measured(words, ended.code == 0 and said and not changed and len(logged) == steps)


@contextlib.contextmanager
def poisoned(step: int) -> Iterator[list[str]]:
    """The images of a run's `step`-th step are NaN; the names of the tensors that it has changed."""
    update, changed = TrainState.update, ["the step was never taken"]

    def poisoned_update(
        self: TrainState, images: Tensor, labels: Tensor, *, stop: StopRequest | None = None
    ) -> Update:
        if self.step + 1 != step:
            return update(self, images, labels, stop=stop)
        before, normalization = tensors_of(self), self.normalization
        with mock.patch.object(self, "normalization", lambda images: normalization(images) * math.nan):
            result = update(self, images, labels, stop=stop)
        changed[:] = [
            name for name, tensor in tensors_of(self).items() if not torch.equal(tensor, before[name])
        ]
        return result

    with mock.patch.object(TrainState, "update", poisoned_update):
        yield changed


def tensors_of(state: TrainState) -> dict[str, Tensor]:
    """A copy of all that a checkpoint would hold."""
    return {
        name: tensor.detach().clone()
        for name, tensor in {**state.model.state_dict(), **state.optimizer_tensors()}.items()
    }


# --- 13: workers --------------------------------------------------------------------------------------------


def workers(work: Path, short: bool) -> Measured:
    steps = 2 if short else 30
    ends, weights = [], []
    for count in range(3):
        run = work / f"workers_{count}"
        ends.append(
            trained(
                run, *TINY, *SHAPES, f"schedule.max_iters={steps}", f"trainer.workers={count}", short=short
            )
        )
        weights.append(weights_of(run))
    words = (
        f"{steps} steps with 0, 1 and 2 workers: {len(set(weights))} different weights, sha256 "
        f"{', '.join(sha[:8] for sha in weights)}"
    )
    return Measured(
        words, len(set(weights)) == 1 and "none" not in weights and all(end.code == 0 for end in ends)
    )


# --- 16: a long run -----------------------------------------------------------------------------------------

SOAK, SHORT_SOAK = 2000, 30  # steps
MOST_SLOPE = 1024  # KB in 1,000 steps


class Sample(NamedTuple):
    step: int
    rss: int  # KB
    descriptors: int


def soak(work: Path, short: bool) -> Measured:
    if not Path("/proc/self/fd").is_dir():
        return Measured("not measured: there is no /proc", None)
    return short_soak(work) if short else long_soak(work)


def long_soak(work: Path) -> Measured:
    run = work / "run"
    frequency = ["trainer.save_every=100", "trainer.eval_every=500", "trainer.log_every=10"]
    settings = [*TINY, *SHAPES, *frequency, "trainer.workers=1", f"schedule.max_iters={SOAK}"]
    samples: list[Sample] = []

    def watch(process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):  # the process has ended between two looks
                step = max((line["step"] for line in written(run)), default=0)
                samples.append(Sample(step, rss(process.pid), descriptors(process.pid)))
            time.sleep(1)

    begin = time.monotonic()
    ended = command("train", *settings, f"hydra.run.dir={run}", work=work, meanwhile=watch)
    seconds = time.monotonic() - begin
    (work / "samples.json").write_text(json.dumps(samples))
    second_half = [sample for sample in samples if SOAK // 2 <= sample.step < SOAK]
    if ended.code or len(second_half) < 2:
        return Measured(f"{ended.words}, {len(second_half)} samples", False)
    slope = (
        np.polyfit([sample.step for sample in second_half], [sample.rss for sample in second_half], 1)[0]
        * 1000
    )
    quarter, end = (typical(samples, share) for share in (0.25, 1.0))
    words = (
        f"{SOAK} steps in {seconds:.0f} s, {len(samples)} samples: RSS {second_half[0].rss / 1024:.0f} MB "
        "at half, "
        f"{second_half[-1].rss / 1024:.0f} MB at the end, {slope:+.0f} KB in 1,000 steps; {quarter} file "
        f"descriptors at a quarter, {end} at the end"
    )
    return Measured(words, slope < MOST_SLOPE and quarter == end)


def short_soak(work: Path) -> Measured:
    settings = [
        *TINY,
        *SHAPES,
        "trainer.workers=1",
        "trainer.save_every=10",
        f"schedule.max_iters={SHORT_SOAK}",
        "model.norm=frozen",
    ]
    samples: list[Sample] = []
    with before_each_step(lambda state: samples.append(Sample(state.step, 0, descriptors(os.getpid())))):
        ended = in_process(work / "run", *settings)
    quarter, end = (typical(samples, share) for share in (0.25, 1.0))
    return Measured(
        f"{SHORT_SOAK} steps: {quarter} file descriptors at a quarter, {end} at the end",
        ended.code == 0 and quarter == end,
    )


def typical(samples: list[Sample], share: float) -> int:
    """The number of file descriptors about `share` of the way. Single samples differ: a batch on its way from
    a worker holds two.
    """
    last = max(2, round(share * len(samples)))
    return round(
        median(sample.descriptors for sample in samples[max(0, last - len(samples) // 8 - 1) : last])
    )


def rss(pid: int) -> int:
    """Resident memory of a process, KB."""
    return next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


ROWS = [
    Row(3, "learning rate after 4 resumes in 100 steps", "equal to the formula", learning_rate),
    Row(10, "all-void crop; NaN injected", "loss 0; exit 7 with the last checkpoint healthy", odd_losses),
    Row(13, "workers 0/1/2", "identical weights", workers),
    Row(16, "2,000-step soak", "RSS slope ~ 0, file descriptors constant", soak),
]
