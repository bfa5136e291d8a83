"""Row 2: failing disks: full, with a file-size limit, read-only. Earlier checkpoints are kept, and the run
can be resumed.
"""

import contextlib
import errno
import os
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.chaos.commands import finish, start, training
from benchmarks.chaos.row import Measured, Row
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import CheckpointError

DISK = 48  # MB: four checkpoints fit, the most that are on the disk during a save
FILE_LIMIT = 4_000_000  # bytes: less than the weights, so that a save fails while writing them


def failing_disks(work: Path) -> Measured:
    parts = [full(work), limited(work), read_only(work)]
    passed = [part.passed for part in parts]
    return Measured(
        "; ".join(part.words for part in parts),
        False if False in passed else None if None in passed else True,
    )


def measured(
    what: str, run: Path, work: Path, *, fail: Callable[[int], object], mend: Callable[[], object]
) -> Measured:
    """Train in `run`, make its disk fail with `fail(process id)` after the first save, then repair it and
    resume.
    """
    length = ["optimizer.momentum=0", "schedule.max_iters=30", "trainer.save_every=3"]
    life = start(training(run, *length), work)
    life.wait_until(lambda: bool(saved(run)))
    fail(life.process.pid)
    before = saved(run)
    ended = life.wait()
    warned = len(re.findall(r"step \d+ could not be saved: .*; training continues", ended.out))
    kept = [name for name in saved(run) if verifies(run / "checkpoints" / name)]
    left = [path.name for path in run.rglob(".tmp-*")]
    mend()
    finish(["resume", str(run)], work)
    words = (
        f"{what}: {warned} failed saves logged, the final one {ended.words}, "
        f"{sum(name in kept for name in before)} of {len(before)} earlier checkpoints intact, {len(left)} "
        "temporary files left, resumed"
    )
    ends_well = ended.code == 6 and ended.brief and (run / "DONE").is_file()
    return Measured(
        words, ends_well and warned > 0 and bool(before) and not left and set(before) <= set(kept)
    )


def saved(run: Path) -> list[str]:
    """The names of a run's checkpoints."""
    return [path.name for path in sorted((run / "checkpoints").glob("step-*"))]


def verifies(path: Path) -> bool:
    try:
        checkpoints.verified(path)
    except CheckpointError:
        return False
    return True


def limited(work: Path) -> Measured:
    """A limit on the size of a file (RLIMIT_FSIZE), as set by a quota or an old file system."""
    if not hasattr(resource, "prlimit"):
        return Measured("file-size limit: not measured: this system cannot limit a running process", None)

    def limit(process: int) -> None:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (FILE_LIMIT, resource.RLIM_INFINITY))

    return measured("file-size limit", work / "limited", work, fail=limit, mend=lambda: None)


def full(work: Path) -> Measured:
    with small_disk(work / "disk") as mounted:
        if not mounted:
            return Measured(f"full disk: not measured: no tmpfs of {DISK} MB can be mounted here", None)
        filler = work / "disk/filler"
        what = f"full disk of {DISK} MB"
        return measured(what, work / "disk/run", work, fail=lambda _: fill(filler), mend=filler.unlink)


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
    """The folder of the checkpoints becomes read-only. It is a file system of its own, because one with an
    open log cannot be remounted read-only.
    """
    run = work / "read_only"
    folder = run / "checkpoints"
    with small_disk(folder) as mounted:
        if not mounted and os.geteuid() == 0:
            return Measured(
                "read-only folder: not measured: root ignores permissions, and no file system can be "
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

        return measured("read-only folder", run, work, fail=lambda _: turn("ro"), mend=lambda: turn("rw"))


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


ROWS = [
    Row(
        2,
        "full disk (small tmpfs), file-size limit, read-only folder",
        "earlier checkpoints intact, one-line error, temp removed",
        failing_disks,
    )
]
