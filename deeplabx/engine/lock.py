"""Locks on files, which the kernel releases however a process ends: one run per folder, and one process or
thread at a time to create a file in the cache.
"""

import errno
import fcntl
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deeplabx.engine.durable import tidy
from deeplabx.errors import ConfigError

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
ANOTHER_FOLDER = "wait for it, or choose another folder: hydra.run.dir=FOLDER"
HELD_HERE: set[Path] = set()  # folders locked by this process: lockf does not distinguish threads
THREADS = threading.Lock()  # of HELD_HERE
HELD = (BlockingIOError, PermissionError)  # POSIX allows EAGAIN and EACCES


def lock(file: IO[str], call: Callable[[IO[str], int], object], *, wait: bool = False) -> bool:
    """Lock a file that is open for writing; False on a file system without locks. Raises one of HELD if
    another process has the lock, unless `wait`.

    call: fcntl.lockf, whose lock loader workers do not inherit (they could outlive a killed main process and
    keep it); or fcntl.flock, which also works between threads.
    """
    try:
        call(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Lock `folder` for this run: two runs writing to one folder would damage each other. Yields a warning if
    its file system has no locks, else an empty string. Raises ConfigError if another run uses it.
    """
    path = folder / NAME
    with THREADS:
        if folder.resolve() in HELD_HERE:
            raise ConfigError(f"{folder} is in use by another run of this process", hint=ANOTHER_FOLDER)
        HELD_HERE.add(folder.resolve())
    try:
        yield from held_lock(folder, path)
    finally:
        HELD_HERE.discard(folder.resolve())


def held_lock(folder: Path, path: Path) -> Iterator[str]:
    warning = f"{folder} is on a file system without locks: make sure that no other run writes there"
    while True:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            try:
                held = lock(file, fcntl.lockf)
            except HELD:
                file.seek(0)
                raise ConfigError(
                    f"{folder} is in use by another run ({file.read().strip()})",
                    hint=ANOTHER_FOLDER,
                ) from None
            if not (path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino):
                continue  # the run before this one removed its lock file between our two calls
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield "" if held else warning
            finally:
                if [entry.name for entry in folder.iterdir()] == [NAME]:
                    path.unlink()  # the run never started
            return


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is creating `path`, keep others out meanwhile, and remove what
    killed ones left. On a file system without locks, two may create it at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a", encoding="utf-8") as file:
        try:
            held = lock(file, fcntl.flock)
        except HELD:
            if sys.stderr.isatty():
                print(f"waiting for another process that is creating {path}", file=sys.stderr)
            held = lock(file, fcntl.flock, wait=True)
        if held:
            tidy(path.parent, f"{path.name}-*")
        yield
