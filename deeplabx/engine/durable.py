"""Files and folders that exist whole or not at all, whatever happens to the process or to the machine."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".tmp-"  # how the name begins of what is not whole yet
REPLACED = ".replaced-"  # and of a folder that makes room for a new one


def sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def unfinished(final: Path) -> Iterator[Path]:
    """A new path beside `final`, which is removed at the end unless it was renamed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{UNFINISHED}{final.name}-{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        with suppress(OSError):  # it was renamed; or the disk fails, and the first error is the one to tell
            remove(temporary)


@contextmanager
def arriving_file(final: Path) -> Iterator[Path]:
    """A path to write to, which becomes `final`, also over an older one, once it is on the disk; after an
    error nothing is left of it.
    """
    with unfinished(final) as temporary:
        yield temporary
        sync(temporary)
        temporary.rename(final)
        sync(final.parent)


def replace(path: Path, text: str) -> None:
    """Let `path` hold `text` instead of what it held."""
    with arriving_file(path) as temporary:
        temporary.write_text(text)


@contextmanager
def arriving(final: Path, *, over: bool) -> Iterator[Path]:
    """A folder to fill, which becomes `final` once it is whole and on the disk; after an error nothing is
    left of it.

    over: whether it takes the place of a folder that is there; else only of an empty one, and OSError is
    raised for another.
    """
    with unfinished(final) as temporary:
        temporary.mkdir()
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        replaced = final.with_name(f"{REPLACED}{final.name}") if over and final.exists() else None
        if replaced:
            final.rename(replaced)
        temporary.rename(final)
        sync(final.parent)
        if replaced:
            remove(replaced)


def tidy(folder: Path, names: str = "*") -> None:
    """Remove what a killed process left unfinished in `folder`. What had made room for a folder that never
    came goes back to its place.

    names: a pattern of the names, without our prefixes.
    """
    for path in folder.glob(f"{REPLACED}{names}"):
        place = folder / path.name.removeprefix(REPLACED)
        remove(path) if place.exists() else path.rename(place)
    for path in folder.glob(f"{UNFINISHED}{names}"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link (never what it leads to)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
