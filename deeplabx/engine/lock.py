"""One run to a folder: two that write into one would damage each other."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplabx.errors import ConfigError

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Keep other runs out of `folder`; a warning where its file system has no locks, else an empty text.
    Raises ConfigError where one is at work.

    A POSIX lock (lockf) belongs to this process alone. A flock would be inherited by loader workers, and
    outlive a main process that was killed.
    """
    path = folder / NAME
    while True:
        file = path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (*NO_LOCKS, errno.EACCES, errno.EAGAIN):
                raise
            file.seek(0)
            owner = file.read().strip()
            file.close()
            if error.errno in NO_LOCKS:
                yield f"{folder} is on a file system without locks: see that no second run writes there"
                return
            raise ConfigError(
                f"{folder} is in use by another run ({owner})",
                hint="wait for it, or choose another folder: hydra.run.dir=FOLDER",
            ) from None
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # the run before us took its lock file away between our two calls
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield ""
        finally:
            if [entry.name for entry in folder.iterdir()] == [NAME]:
                path.unlink()  # the run never began
