"""Files and folders that exist whole or not at all, whatever happens to the process or to the machine."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeplabx.errors import printable

UNFINISHED = ".tmp-"  # name prefix of a file or folder that is still being written
MOST_OF_NAME = 200  # bytes of the final name in that of an unfinished one: file systems allow 255
REPLACED = ".replaced-"  # name prefix of a folder that is being replaced


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def unfinished(final: Path) -> Iterator[Path]:
    """A temporary path beside `final`, removed on exit unless it was renamed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsdecode(os.fsencode(final.name)[:MOST_OF_NAME])
    temporary = final.with_name(f"{UNFINISHED}{name}-{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        with suppress(OSError):  # already renamed; or the disk failed, which the first error reports
            remove(temporary)


@contextmanager
def arriving_file(final: Path) -> Iterator[Path]:
    """A path to write to. It is renamed to `final`, replacing an older file, once it is on the disk; on an
    error it is removed.
    """
    with unfinished(final) as temporary:
        yield temporary
        sync(temporary)
        temporary.rename(final)
        sync(final.parent)


def write_words(path: Path, text: str) -> None:
    """Write lines for people to read. What cannot be shown is escaped: names that are not UTF-8, control
    characters.
    """
    path.write_text("\n".join(map(escaped, text.split("\n"))), encoding="utf-8")


def escaped(line: str) -> str:
    """`line`, however long, with an escape of at most ten characters for each that cannot be shown."""
    return printable(line, 10 * len(line))


def replace(path: Path, text: str) -> None:
    """Replace the content of `path` with `text`, in UTF-8."""
    with arriving_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def utf8_name(path: Path) -> Iterator[Path]:
    """A name in UTF-8 of a file or folder that exists, for a library that takes no other: its own, or that
    of it as an open file.
    """
    if not any("\ud800" <= one <= "\udfff" for one in str(path)):  # as Python holds other bytes
        yield path
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Path(f"/dev/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextmanager
def arriving(final: Path, *, over: bool) -> Iterator[Path]:
    """A folder to fill. It is renamed to `final` once it is complete and on the disk; on an error it is
    removed.

    over: whether it replaces an existing folder. Otherwise it replaces an empty one only, and OSError is
    raised for any other.
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
    """Remove unfinished files that a killed process left in `folder`, and restore folders whose replacement
    was never completed.

    names: a pattern for the names, without our prefixes.
    """
    for path in folder.glob(f"{REPLACED}{names}"):
        place = folder / path.name.removeprefix(REPLACED)
        remove(path) if place.exists() else path.rename(place)
    for path in folder.glob(f"{UNFINISHED}{names}"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link (never its target)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
