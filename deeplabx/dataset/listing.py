"""What a data set's folder contains: the one lister of every command. Standard library only."""

import os
from pathlib import Path

from deeplabx.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


def contents(folder: Path) -> str:
    """What a folder contains, for an error message."""
    if not folder.is_dir():
        return "there is no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"it contains {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def files_in(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, following links to folders. Hidden files (._a.jpg) and folders
    (.ipynb_checkpoints) are skipped.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".") and real not in seen]
        seen.add(real)
    return sorted(found)


def images_in(folder: Path) -> list[Path]:
    """Every image below a folder, sorted."""
    return [path for path in files_in(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def lines_of(path: Path) -> list[str]:
    """The non-empty lines of a split's list. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file of names") from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{path} lists no names")
    return lines


def listed_names(path: Path) -> list[str]:
    """The names in a split's list, one per line. Raises DataError for a name that leads out of the data set's
    folder.
    """
    names = lines_of(path)
    for name in names:
        if leads_out(name):
            raise DataError(
                f"{path}: {name!r} leads out of the data set's folder", hint="names are relative, without .."
            )
    return names


def leads_out(name: str) -> bool:
    return "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts
