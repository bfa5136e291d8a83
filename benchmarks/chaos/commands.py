"""Commands of `deeplabx` that are small enough to be killed often, and what they leave."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deeplabx.engine import checkpoint as checkpoints

DEEPLABX = [sys.executable, "-m", "deeplabx"]
SECONDS = 300  # time limit of a command
MOST_LINES = 3  # lines of an error
TINY = [  # batches that two processes can share
    "model=deeplabv3",
    "dataset.train_images=12",
    "dataset.val_images=1",
    "augment.crop_size=17",
    "trainer.batch_size=4",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.samples=0",
    "trainer.precision=fp32",
    "trainer.devices=cpu",
    "trainer.eval_every=100000",  # besides the one at the end
]
STARTED: list[subprocess.Popen[bytes]] = []


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def brief(self) -> bool:
        """Whether it printed an error of a few lines."""
        return bool(self.err) and len(self.err.splitlines()) <= MOST_LINES and "Traceback" not in self.err

    @property
    def words(self) -> str:
        return f"exit {self.code}" + (f", {len(self.err.splitlines())} lines" if self.err else "")


@dataclass
class Running:
    """A command that was started, and the files that its output goes to."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def words(self) -> str:
        """The output so far."""
        return self.out.read_text(encoding="utf-8", errors="replace") + self.err.read_text(
            encoding="utf-8", errors="replace"
        )

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition came to hold before the command ended, and in SECONDS."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return condition()
            time.sleep(0.001)
        return True

    def wait_for(self, words: str) -> None:
        """Wait until it has printed `words`. Raises RuntimeError when it does not."""
        if not self.wait_until(lambda: words in self.words):
            raise RuntimeError(
                f"did not print {words!r}; exit code {self.process.poll()}: {self.words[-500:]}"
            )

    def wait(self) -> Ended:
        return Ended(
            self.process.wait(SECONDS),
            self.out.read_text(encoding="utf-8"),
            self.err.read_text(encoding="utf-8"),
        )

    def send(self, number: signal.Signals, *, group: bool = False) -> float:
        """Send a signal to the process, or to its whole group; the seconds until it has ended."""
        begin = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.wait(SECONDS)
        return time.monotonic() - begin


def start(words: Sequence[str], work: Path, *, program: Sequence[str] = DEEPLABX) -> Running:
    """Start `program words` in its own process group, its output in new files in `work`."""
    number = len(list(work.glob("*.out")))
    paths = [work / f"{number}.{name}" for name in ("out", "err")]
    with paths[0].open("wb") as out, paths[1].open("wb") as err:
        process = subprocess.Popen(
            [*program, *words], cwd=work, stdout=out, stderr=err, start_new_session=True
        )
    STARTED.append(process)
    return Running(process, *paths)


def finish(words: Sequence[str], work: Path) -> None:
    """Run `deeplabx words` to its end. Raises RuntimeError when that is not exit code 0."""
    ended = start(words, work).wait()
    if ended.code:
        raise RuntimeError(f"{ended.words}: {ended.err[-300:]}")


def end_all() -> None:
    """Kill the processes that a failed row left running."""
    while STARTED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(STARTED.pop().pid, signal.SIGKILL)


def training(run: Path, *settings: str) -> list[str]:
    return ["train", *TINY, f"hydra.run.dir={run}", *settings]


# --- what they leave ----------------------------------------------------------------------------------------


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint that verifies, 0 where there is none."""
    found, _ = checkpoints.newest(run / "checkpoints")
    return 0 if found is None else int(found.state["step"])


def weights_of(run: Path) -> str:
    """sha256 of a run's newest weights."""
    found, _ = checkpoints.newest(run / "checkpoints")
    return (
        "none"
        if found is None
        else hashlib.sha256((found.path / "model.safetensors").read_bytes()).hexdigest()
    )


def logged_step(run: Path) -> int:
    """The last step in a run's metrics.jsonl, 0 where there is none."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def members(group: int) -> list[int]:
    """The processes of a group that still run; those that only wait to be reaped do not count."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,pgid,stat"], capture_output=True, encoding="utf-8", check=True
    ).stdout.splitlines()[1:]
    rows = [line.split() for line in listed]
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


def seconds_until_gone(group: int) -> float:
    """How long a group still runs, at most SECONDS."""
    begin = time.monotonic()
    while members(group) and time.monotonic() - begin < SECONDS:
        time.sleep(0.02)
    return time.monotonic() - begin
