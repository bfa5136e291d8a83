"""Disks that take no more: full, with a limit on a file's size, read-only. What was saved before stays, and
the run can be resumed.
"""

import contextlib
import errno
import os
import re
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.chaos.commands import SHAPES, TINY, Ended, command, in_process, until
from benchmarks.chaos.row import Measured, Row
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import CheckpointError

SAVE_EVERY = 3
STEPS, FEW_STEPS = 30, 9
DISK = 48  # MB: four checkpoints fit, which is the most that a save has on the disk at once
FILE_LIMIT = 4_000_000  # bytes: less than the weights, so that a save fails in their midst


def settings(steps: int) -> list[str]:
    return [
        *TINY,
        *SHAPES,
        "optimizer.momentum=0",
        f"schedule.max_iters={steps}",
        f"trainer.save_every={SAVE_EVERY}",
    ]


def full_disks(work: Path, short: bool) -> Measured:
    if short:
        return small_limit(work)
    parts = [full(work), limited(work), read_only(work)]
    passed = [part.passed for part in parts]
    return Measured(
        "; ".join(part.words for part in parts),
        False if False in passed else None if None in passed else True,
    )


# --- what must hold -----------------------------------------------------------------------------------------


def judged(ended: Ended, run: Path, before: list[str], *, what: str, resume: Callable[[], Ended]) -> Measured:
    """Whether a run whose disk failed it ended as it must, and goes on when the disk is sound again.

    before: the checkpoints that were there when the disk began to fail. resume: mends the disk, and resumes.
    """
    warned = len(re.findall(r"step \d+ could not be saved: .*; training goes on", ended.said))
    kept = [path.name for path in sorted((run / "checkpoints").glob("step-*")) if verifies(path)]
    left = [path.name for path in run.rglob(".tmp-*")]
    again = resume()
    words = (
        f"{what}: {warned} saves warned of, the last one {ended.words}, "
        f"{sum(name in kept for name in before)} of {len(before)} earlier "
        f"checkpoints intact, {len(left)} temporaries left, resumed: exit {again.code}"
    )
    ends_well = ended.code == 6 and ended.brief and again.code == 0 and (run / "DONE").is_file()
    return Measured(
        words, ends_well and warned > 0 and bool(before) and not left and set(before) <= set(kept)
    )


def verifies(path: Path) -> bool:
    try:
        checkpoints.verified(path)
    except CheckpointError:
        return False
    return True


def saved(run: Path) -> list[str]:
    """The names of a run's checkpoints."""
    return [path.name for path in sorted((run / "checkpoints").glob("step-*"))]


def failing(
    run: Path, fail: Callable[[int], object], before: list[str]
) -> Callable[[subprocess.Popen[str]], None]:
    """Let the disk fail, by `fail(process id)`, once a run has saved; `before` takes the names of what it had
    saved.
    """

    def wait_and_fail(process: subprocess.Popen[str]) -> None:
        until(lambda: bool(saved(run)), process)
        fail(process.pid)
        before.extend(saved(run))

    return wait_and_fail


def resumed(run: Path, work: Path) -> Ended:
    return command("resume", str(run), work=work)


# --- a limit on a file's size -------------------------------------------------------------------------------


def limited(work: Path) -> Measured:
    """RLIMIT_FSIZE, as a quota or an old file system has it."""
    run, before = work / "limited", list[str]()
    if not hasattr(resource, "prlimit"):
        return Measured(
            "file-size limit: not measured, this system sets no limits of running processes", None
        )
    ended = command(
        "train",
        *settings(STEPS),
        f"hydra.run.dir={run}",
        work=work,
        meanwhile=failing(run, limit_files, before),
    )
    return judged(ended, run, before, what="file-size limit", resume=lambda: resumed(run, work))


def limit_files(process: int) -> None:
    resource.prlimit(process, resource.RLIMIT_FSIZE, (FILE_LIMIT, resource.RLIM_INFINITY))


def small_limit(work: Path) -> Measured:
    """The same in this process, whose own limit is lowered while it trains."""
    run, before = work / "limited", list[str]()
    with file_limit_after(run, before):
        ended = in_process(run, *settings(FEW_STEPS))
    return judged(
        ended,
        run,
        before,
        what="file-size limit",
        resume=lambda: in_process(run, *settings(FEW_STEPS), "resume=true"),
    )


@contextlib.contextmanager
def file_limit_after(run: Path, before: list[str]) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    over = threading.Event()

    def wait_and_limit() -> None:
        while not saved(run) and not over.wait(0.001):
            pass
        if not over.is_set():
            resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))
            before.extend(saved(run))

    watching = threading.Thread(target=wait_and_limit)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- a small disk -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs at `folder`; whether it could be mounted."""
    folder.mkdir(parents=True)
    mounted = mount("-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> bool:
    with contextlib.suppress(FileNotFoundError):  # no such command
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    return False


def full(work: Path) -> Measured:
    with small_disk(work / "disk") as mounted:
        if not mounted:
            return Measured(f"full disk: not measured, no tmpfs of {DISK} MB can be mounted here", None)
        run, filler, before = work / "disk/run", work / "disk/filler", list[str]()
        ended = command(
            "train",
            *settings(STEPS),
            f"hydra.run.dir={run}",
            work=work,
            meanwhile=failing(run, lambda process: fill(filler), before),
        )

        def mend_and_resume() -> Ended:
            filler.unlink()
            return resumed(run, work)

        return judged(ended, run, before, what=f"full disk of {DISK} MB", resume=mend_and_resume)


def fill(filler: Path) -> None:
    """Write until the disk is full."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def read_only(work: Path) -> Measured:
    """The folder of the checkpoints turns read-only. Its file system is one of its own: with a log open on
    it, it could not turn.
    """
    run, before = work / "read_only", list[str]()
    folder = run / "checkpoints"
    with small_disk(folder) as mounted:
        if not mounted and os.geteuid() == 0:
            return Measured(
                "read-only folder: not measured, root may write into any, and no file system can be "
                "mounted here",
                None,
            )

        def turn(state: str) -> None:
            if mounted:
                deadline = time.monotonic() + 5
                while not mount("-o", f"remount,{state}", str(folder)) and time.monotonic() < deadline:
                    time.sleep(0.001)  # busy: a save is being written
            else:
                folder.chmod(0o755 if state == "rw" else 0o555)

        ended = command(
            "train",
            *settings(STEPS),
            f"hydra.run.dir={run}",
            work=work,
            meanwhile=failing(run, lambda process: turn("ro"), before),
        )

        def mend_and_resume() -> Ended:
            turn("rw")
            return resumed(run, work)

        return judged(ended, run, before, what="read-only folder", resume=mend_and_resume)


ROWS = [
    Row(
        2,
        "full disk (small tmpfs), file-size limit, read-only folder",
        "earlier checkpoints intact, one-line error, temp removed",
        full_disks,
    )
]
