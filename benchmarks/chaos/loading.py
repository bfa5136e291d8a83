"""Rows 22 to 24: loader workers that are killed, a small /dev/shm, and data that stop arriving."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.chaos.commands import (
    DEEPLABX,
    Running,
    members,
    newest_step,
    seconds_until_gone,
    start,
    training,
)
from benchmarks.chaos.row import Measured, Row

KILLS = 10
SOON = 15  # seconds
LONG = ["schedule.max_iters=100000", "trainer.save_every=2"]
TWO_WORKERS = "trainer.workers=2"
# A plug-in, dataset=stalling: reading does not end once the working folder has a named pipe `stalled`.
STALLING = """
from dataclasses import dataclass
from pathlib import Path

import deeplabx
from deeplabx.config import schema
from deeplabx.config.fields import nested, number
from deeplabx.dataset.shapes import Shapes


@dataclass
class StallingSettings(schema.DatasetSettings):
    train_images: int = number(at_least=1, default=12, words="images to train on")
    val_images: int = number(at_least=1, default=1, words="images to evaluate on")
    recommended: schema.DatasetRecommended = nested(
        lambda: schema.DatasetRecommended(crop_size=17, batch_size=4, max_iters=4, lr=0.02), builder=False
    )


class Stalling(Shapes):
    def __getitem__(self, index):
        if Path("stalled").exists():
            Path("stalled").read_bytes()
        return super().__getitem__(index)


deeplabx.register("dataset", "stalling", build=Stalling, settings=StallingSettings, words="shapes that stall")
"""


class Process(NamedTuple):
    id: int
    parent: int
    arguments: str


def processes(group: int) -> list[Process]:
    """The processes of a group that still run."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    running = set(members(group))
    return [Process(int(row[0]), int(row[1]), row[2]) for row in rows if int(row[0]) in running]


def loader_workers(life: Running) -> list[int]:
    """The processes that have no processes of their own; multiprocessing's tracker of semaphores apart."""
    running = processes(life.process.pid)
    parents = {one.parent for one in running}
    tracker = "resource_tracker import main"
    return [one.id for one in running if one.id not in parents and tracker not in one.arguments]


def ended(life: Running, *, begin: float) -> tuple[int, float, int]:
    """Exit code, seconds since `begin`, and how many processes are left a second later."""
    code = life.process.wait(60)
    seconds = time.monotonic() - begin
    left = seconds_until_gone(life.process.pid) if members(life.process.pid) else 0
    return code, seconds, int(left > 1)


def kill_a_worker(
    work: Path, *settings: str, rng: random.Random, program: Sequence[str]
) -> tuple[bool, float]:
    """Train, and kill a loader worker at a random moment; whether the run ended as it should, and after how
    many seconds.
    """
    run = work / f"run-{len(list(work.iterdir()))}"
    life = start(training(run, *LONG, TWO_WORKERS, *settings), work, program=program)
    life.wait_for("step 3/")
    time.sleep(rng.uniform(0, 1))
    saved = newest_step(run)
    os.kill(rng.choice(loader_workers(life)), signal.SIGKILL)
    code, seconds, left = ended(life, begin=time.monotonic())
    said = life.err.read_text(encoding="utf-8")
    words = "loader worker" in said and "SIGKILL" in said and len(said.strip().splitlines()) <= 3
    kept = newest_step(run) >= saved
    return code == 6 and words and kept and not left, seconds


def worker_kills(work: Path) -> Measured:
    rng = random.Random(0)
    results, words = [], []
    small = ["model=lraspp", "backbone=mobilenetv3_small"]
    pipes = with_shared_memory("512k") if can_mount() else DEEPLABX
    for name, kills, program, settings in (
        ("one process", KILLS, DEEPLABX, []),
        ("large batches through pipes", KILLS // 2, pipes, ["augment.crop_size=257", *small]),
        ("two processes", KILLS // 2, DEEPLABX, ["trainer.devices=2", *small]),
    ):
        found = [kill_a_worker(work, *settings, rng=rng, program=program) for _ in range(kills)]
        results += [passed for passed, _ in found]
        words.append(
            f"{name}: {sum(passed for passed, _ in found)} of {kills} ended with exit 6 in words, the "
            f"slowest after {max(seconds for _, seconds in found):.1f} s"
        )
    return Measured("; ".join(words), all(results))


# --- shared memory ------------------------------------------------------------------------------------------


def with_shared_memory(size: str) -> list[str]:
    """The command in a mount namespace of its own, with a /dev/shm of this size."""
    script = 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"'
    return ["unshare", "-m", "bash", "-c", script, size, *DEEPLABX]


def can_mount() -> bool:
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    try:
        return sys.platform == "linux" and subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def small_shared_memory(work: Path) -> Measured:
    """VOC's default crop and batch for 12 steps."""
    if not can_mount():
        return Measured("not measured: no /dev/shm of another size can be mounted here", None)
    voc = ["augment.crop_size=513", "trainer.batch_size=16", "schedule.max_iters=12", TWO_WORKERS]
    small = ["model=lraspp", "backbone=mobilenetv3_small", "dataset.train_images=32"]
    words, passed = [], True
    for size in ("64m", "256k", "8k"):
        settings = training(work / size, *voc, *small)
        begin = time.monotonic()
        life = start(settings, work, program=with_shared_memory(size))
        code = life.process.wait(600)
        seconds = time.monotonic() - begin
        trained, brief = code == 0 and "through pipes" in life.words, life.wait().brief
        passed &= trained or (code == 6 and brief and seconds < SOON and size == "8k")
        words.append(f"{size}: {'trained' if trained else f'exit {code} in words'}, {seconds:.0f} s")
    return Measured("; ".join(words), passed)


# --- data that stop arriving --------------------------------------------------------------------------------


def stall(work: Path, number: signal.Signals, *settings: str) -> tuple[bool, str]:
    """Train; reading stops to end after a few steps; send a signal. Whether the run ended as it should."""
    name = f"{number.name} {' '.join(settings)}"
    place = work / name.replace("=", "-").replace(" ", "-")
    place.mkdir()
    (place / "parts.py").write_text(STALLING, encoding="utf-8")
    run = place / "run"
    life = start(training(run, "plugins=parts.py", "dataset=stalling", *LONG, *settings), place)
    life.wait_for("step 3/")
    os.mkfifo(place / "stalled")
    step, deadline = -1, time.monotonic() + 60
    while step != (step := last_step(life)) and time.monotonic() < deadline:
        time.sleep(3)
    begin = time.monotonic()
    os.kill(life.process.pid, number)
    code, seconds, left = ended(life, begin=begin)
    saved = newest_step(run)
    right = code == (130 if number == signal.SIGINT else 75)
    words = f"{name}: exit {code} after {seconds:.1f} s, step {saved} of {step} saved"
    return right and saved >= step >= 3 and not left and seconds < SOON, words


def last_step(life: Running) -> int:
    steps = [line.split()[1] for line in life.words.splitlines() if line.startswith("step ")]
    return int(steps[-1].partition("/")[0])


def stalled(work: Path) -> Measured:
    found = [
        stall(work, signal.SIGTERM, TWO_WORKERS),
        stall(work, signal.SIGINT, "trainer.workers=0"),
        stall(work, signal.SIGTERM, TWO_WORKERS, "trainer.devices=2"),
    ]
    return Measured("; ".join(words for _, words in found), all(passed for passed, _ in found))


ROWS = [
    Row(
        22,
        f"a loader worker killed at a random moment, {KILLS} times",
        "exit 6 in words within seconds, never a hang, no process left, checkpoints kept",
        worker_kills,
    ),
    Row(
        23,
        "VOC's crop and batch with a /dev/shm of 64 MB, 256 KB, 8 KB",
        "trains, or words in 15 s",
        small_shared_memory,
    ),
    Row(24, "reading never ends; TERM, Ctrl-C", "saved at the last step, 75 or 130 in seconds", stalled),
]
