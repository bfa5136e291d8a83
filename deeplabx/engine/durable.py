"""Files and folders that are there whole or not at all, whatever happens to the process or to the machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED, REPLACED = (
    ".tmp-",
    ".replaced-",
)  # how the names begin of what is not there yet, and of what makes room


def sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Let `path` hold `text` instead of what it held."""
    temporary = path.with_name(f"{UNFINISHED}{path.name}")
    try:
        temporary.write_text(text)
        sync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def arriving(final: Path, *, over: bool) -> Iterator[Path]:
    """A folder to fill with files, which becomes `final` once it is whole and on the disk; after an error
    nothing is left of it.

    over: whether it takes the place of a folder that is there; else only of an empty one, and OSError is
    raised for another.
    """
    beside = final.parent
    beside.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=beside))
    try:
        yield temporary
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        temporary.chmod(0o755)
        replaced = beside / f"{REPLACED}{final.name}" if over and final.exists() else None
        if replaced:
            final.rename(replaced)
        temporary.rename(final)
        sync(beside)
        if replaced:
            remove(replaced)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Take away what a killed process left in `folder`. What had made room for a folder that never came goes
    back to its place.
    """
    for path in folder.glob(f"{REPLACED}*"):
        place = folder / path.name.removeprefix(REPLACED)
        remove(path) if place.exists() else path.rename(place)
    for path in folder.glob(f"{UNFINISHED}*"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link (never what it leads to)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
