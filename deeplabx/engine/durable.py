"""Files that are there whole or not at all, whatever happens to the process or to the machine."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Let `path` hold `text` instead of what it held."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(text)
        sync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
