"""Runs of `deeplabx` that are small enough to be killed often: by the command, or in this process."""

import contextlib
import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hydra
from omegaconf import DictConfig, OmegaConf

from deeplabx import apps, checks
from deeplabx import config as schema
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import CheckpointError
from deeplabx.train import train

DEEPLABX = [sys.executable, "-m", "deeplabx"]
SECONDS = 300  # that a command may take
MOST_LINES = 3  # of an error
BASE_LR = 0.05
TINY = [
    "model=deeplabv3",
    "augment.crop_size=17",
    "trainer.batch_size=2",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.samples=0",
    "trainer.precision=fp32",
    "trainer.devices=cpu",
    "trainer.eval_every=100000",  # besides the one at the end
    f"optimizer.lr={BASE_LR}",
]
STARTED: list[subprocess.Popen[bytes]] = []
SHAPES = ["dataset.train_images=12", "dataset.val_images=1"]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    said: str  # on stdout
    told: str  # on stderr

    @property
    def brief(self) -> bool:
        """Whether an error was told of in a few lines."""
        return bool(self.told) and len(self.told.splitlines()) <= MOST_LINES and "Traceback" not in self.told

    @property
    def words(self) -> str:
        return f"exit {self.code}" + (f", {len(self.told.splitlines())} lines" if self.told else "")


def command(
    *words: str, work: Path, meanwhile: Callable[[subprocess.Popen[str]], None] | None = None
) -> Ended:
    """Run `deeplabx words` in the folder `work`; `meanwhile` is called with the running process."""
    said, told = work / "said.txt", work / "told.txt"
    with said.open("w") as out, told.open("w") as err:
        process = subprocess.Popen([*DEEPLABX, *words], cwd=work, stdout=out, stderr=err, text=True)
        try:
            if meanwhile is not None:
                meanwhile(process)
            code = process.wait(timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
    return Ended(code, said.read_text(), told.read_text())


def in_process(folder: Path, *settings: str) -> Ended:
    """`deeplabx train settings` in `folder`, without the seconds that a process takes to start and a plot to
    be drawn.
    """
    folder.mkdir(exist_ok=True)
    groups = [setting for setting in settings if setting.partition("=")[0] in schema.FAMILIES]
    typed = OmegaConf.from_dotlist([setting for setting in settings if setting not in groups])
    config = checks.checked(DictConfig(OmegaConf.merge(composed(*groups), typed)))
    said, told, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(told),
        mock.patch("deeplabx.train.draw_curves"),
    ):
        try:
            train(config, folder, overrides=[])
        except Exception as error:  # noqa: BLE001 - as the command does, which has words for every error
            code = apps.report(apps.in_words(error, folder))
    return Ended(code, said.getvalue(), told.getvalue())


@functools.cache
def composed(*groups: str) -> DictConfig:
    """The config of `deeplabx train groups`. Hydra takes longer to compose it than a few steps take."""
    schema.register_schemas("train")
    with hydra.initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        return hydra.compose("train", list(groups))


def trained(folder: Path, *settings: str, short: bool) -> Ended:
    """A training in `folder`: by the command, or in this process where it is to be short."""
    return (
        in_process(folder, *settings)
        if short
        else command("train", *settings, f"hydra.run.dir={folder}", work=folder.parent)
    )


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds, or the process has ended."""
    deadline = time.monotonic() + SECONDS
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def written(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl that are whole."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def newest(folder: Path) -> checkpoints.Checkpoint | None:
    """The newest checkpoint of a run, if it verifies."""
    paths = sorted((folder / "checkpoints").glob("step-*"))
    try:
        return checkpoints.verified(paths[-1]) if paths else None
    except CheckpointError:
        return None


def weights_of(folder: Path) -> str:
    """sha256 of a run's newest weights."""
    found = newest(folder)
    return hashlib.sha256((found.path / "model.safetensors").read_bytes()).hexdigest() if found else "none"


@dataclass
class Running:
    """A command that was started, and what it has said."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def words(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        """Until it has said `words`. Raises TimeoutError, or RuntimeError when it ends before."""
        deadline = time.monotonic() + SECONDS
        while words not in self.words:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"ended with {self.process.returncode} before it said {words!r}: {self.words[-500:]}"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"did not say {words!r}: {self.words[-500:]}")
            time.sleep(0.002)

    def signal(self, number: signal.Signals, *, group: bool = False) -> float:
        """Send a signal to the process, or to its whole group; the seconds until it has ended."""
        begin = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.wait(SECONDS)
        return time.monotonic() - begin


def start(command: Sequence[str | Path], work: Path) -> Running:
    """Start a command in its own process group, its output in a new file in `work`."""
    output = work / f"output-{len(list(work.glob('output-*')))}"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*map(str, command)], cwd=work, stdout=file, stderr=file, start_new_session=True
        )
    STARTED.append(process)
    return Running(process, output)


def end_all() -> None:
    """Kill what a row that broke off left running."""
    while STARTED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(STARTED.pop().pid, signal.SIGKILL)


def training(run: Path, *settings: str) -> list[str]:
    """The words of a training on shapes in `run`, in batches that two processes can share."""
    return [*DEEPLABX, "train", *TINY, *SHAPES, "trainer.batch_size=4", f"hydra.run.dir={run}", *settings]


def finish(words: Sequence[str], work: Path) -> None:
    """Run a command to its end. Raises RuntimeError when that is not exit code 0."""
    ended = command(*words[len(DEEPLABX) :], work=work)
    if ended.code:
        raise RuntimeError(f"{ended.words}: {ended.told[-300:]}")


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint that verifies, 0 where there is none."""
    found, _ = checkpoints.newest(run / "checkpoints")
    return 0 if found is None else int(found.state["step"])


def logged_step(run: Path) -> int:
    """The last step that the run wrote down, 0 where there is none."""
    lines = written(run)
    return int(lines[-1]["step"]) if lines else 0


def members(group: int) -> list[int]:
    """The processes of a group that still run; those that only wait to be reaped do not count."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    rows = [line.split() for line in listed]
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


def seconds_until_gone(group: int) -> float:
    """How long a group still runs, at most SECONDS."""
    begin = time.monotonic()
    while members(group) and time.monotonic() - begin < SECONDS:
        time.sleep(0.02)
    return time.monotonic() - begin
