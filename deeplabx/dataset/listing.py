"""What a folder contains: the one lister of every command. Standard library only.

Hidden files and system folders are left out, links to folders are followed, and each real folder is listed
once. A folder that cannot be listed is an error. What is left out is counted, in words.
"""

import codecs
import heapq
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset.problems import report
from deeplabx.errors import DataError, printable

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# Thumbnails, trash and file systems' own: Synology, QNAP, Windows, ext4, zip archives made on macOS.
SYSTEM_FOLDERS = (
    *("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    "__MACOSX",
)
MOST_SKIPPED = 3  # folders that are named
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


# --- one folder ---------------------------------------------------------------------------------------------


def contents(folder: Path) -> str:
    """What a folder contains, for an error message."""
    if not folder.is_dir():
        return "there is no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"it contains {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def nfc(name: str) -> str:
    """A name as it is compared: macOS writes é as e and an accent, other systems as one character."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name, hidden ones included. Raises DataError where it cannot be listed, or
    where two names differ in their Unicode normalisation only.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:  # no permission, or a file system that is gone
        raise DataError(
            f"{folder} cannot be listed: {error.strerror or error}",
            hint="nothing below it can be used; check its permissions and its disk, or move it elsewhere",
        ) from None
    by_name: dict[str, str] = {}
    for name in (entry.name for entry in entries if not entry.name.startswith(".")):
        other = by_name.setdefault(nfc(name), name)
        if other != name:
            raise DataError(
                f"{folder} holds two names that look the same: {other!a} and {name!a}",
                hint="they differ in their Unicode normalisation only: remove or rename one of them",
            )
    return entries


class Names:
    """Paths by their names, compared after NFC. Each folder is listed once, hidden files are not found."""

    def __init__(self) -> None:
        self.listed: dict[Path, dict[str, str]] = {}
        self.listed_stems: dict[Path, dict[str, list[str]]] = {}

    def of(self, folder: Path) -> dict[str, str]:
        """From NFC to the name on the disk; nothing where there is no such folder."""
        if folder not in self.listed:
            entries = entries_of(folder) if folder.is_dir() else []
            shown = (entry.name for entry in entries if not entry.name.startswith("."))
            self.listed[folder] = {nfc(name): name for name in shown}
        return self.listed[folder]

    def path(self, folder: Path, inside: str | Path) -> Path:
        """folder / inside as it is on the disk; as it was asked for where it is not there."""
        for part in Path(inside).parts:
            folder = folder / self.of(folder).get(nfc(part), part)
        return folder

    def with_stem(self, folder: Path, stem: str) -> list[Path]:
        """The image files of a folder that are called `stem`, whatever their suffix."""
        stems = self.listed_stems.get(folder)
        if stems is None:
            stems = self.listed_stems[folder] = {}
            for name in self.of(folder).values():
                if name.lower().endswith(IMAGE_SUFFIXES):
                    stems.setdefault(nfc(Path(name).stem), []).append(name)
        return [folder / name for name in stems.get(nfc(stem), [])]


class RealFolders:
    """Paths without the links that lead to their folders; the file itself may be a link."""

    def __init__(self) -> None:
        self.known: dict[Path, Path] = {}

    def path(self, path: Path) -> Path:
        folder = path.parent
        if folder not in self.known:
            self.known[folder] = folder.resolve()
        return self.known[folder] / path.name


# --- everything below a folder ------------------------------------------------------------------------------


class Found(NamedTuple):
    """What is below a folder."""

    paths: list[Path]  # the files that were looked for, sorted
    unreadable: list[str]  # broken links, and entries that are not files, in words
    left_out: list[str]  # what was not looked for, and folders that were listed before, in words
    suffixes: str  # of the files that were not looked for, with their number


def images_in(folder: Path, *, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Found:
    """Every image below a folder. Reports a DataError for a broken link, and for an entry that is
    not a file."""
    found = found_in(folder, suffixes=suffixes)
    refuse_unreadable(found)
    return found


def images_beside_json(folder: Path) -> Found:
    """As `images_in`, of a folder in which JSON files are expected: they are not counted as left out."""
    found = images_in(folder, suffixes=(*IMAGE_SUFFIXES, ".json"))
    return found._replace(paths=[path for path in found.paths if path.suffix.lower() != ".json"])


def refuse_unreadable(found: Found) -> None:
    if found.unreadable:
        count = f" ({len(found.unreadable)} such files)" if len(found.unreadable) > 1 else ""
        report(
            DataError(
                f"{found.unreadable[0]}{count}", hint="remove it, or put the file there that is missing"
            )
        )


def input_images(source: Path, *, besides: Path | None = None) -> Found:
    """The image at `source`, or every image below that folder, except in the folder `besides`. Raises
    DataError where there is none.
    """
    if source.is_file():
        return Found([source], [], [], "")
    if not source.is_dir():
        raise DataError(f"input={source} is neither a file nor a folder")
    found = found_in(source, besides=besides)
    if not found.paths and not found.unreadable:
        held = f" (only {found.suffixes})" if found.suffixes else ""
        raise DataError(
            f"input={source} holds no images{held}", hint=f"looked for {' '.join(IMAGE_SUFFIXES)}"
        )
    return found


def found_in(
    folder: Path, *, suffixes: tuple[str, ...] = IMAGE_SUFFIXES, besides: Path | None = None
) -> Found:
    """Every file below a folder with one of these suffixes, in lower or upper case."""
    walk = Walk(folder, besides=besides)
    paths: list[Path] = []
    unreadable: list[str] = []
    others: Counter[str] = Counter()
    for path, problem in walk.entries:
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            others[f"hidden {suffix}"] += suffix in suffixes
        elif problem and (suffix in suffixes or not suffix):
            # One without a suffix may be a link to a folder of images on a disk that is not there.
            unreadable.append(f"{path} is {problem}")
        elif suffix not in suffixes:
            others[suffix or "without a suffix"] += 1
        else:
            paths.append(path)
    counted = printable(", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()) if count))
    left_out = [f"left out of {printable(str(folder))}: {counted}"] if counted else []
    skipped = [printable(words) for words in walk.skipped[:MOST_SKIPPED]]
    if len(walk.skipped) > MOST_SKIPPED:
        skipped.append(f"skipped {len(walk.skipped) - MOST_SKIPPED} more such folders")
    return Found(sorted(paths), unreadable, [*left_out, *skipped], counted)


class Walk:
    """Every entry below a folder, folders apart, with what is wrong with it ("" for a file).

    Real folders are listed before links to them, so that a file has its own path, not that of a link.
    """

    def __init__(self, folder: Path, *, besides: Path | None) -> None:
        self.entries: list[tuple[Path, str]] = []
        self.skipped: list[str] = []
        self.listed: dict[Path, Path] = {}  # by real path
        self.links: list[tuple[Path, Path, Path]] = []  # a heap of path, its folder's real path, its target's
        self.besides = None if besides is None or besides.resolve() == folder.resolve() else besides.resolve()
        self.add(folder, folder.resolve())
        while self.links:
            path, parent, target = heapq.heappop(self.links)
            if parent.is_relative_to(target):
                self.skipped.append(f"skipped {path}: it is a link to a folder that contains it")
            else:
                self.add(path, target)

    def add(self, folder: Path, real: Path) -> None:
        """List a folder and the real folders below it; links to folders wait in `links`."""
        waiting = [(folder, real)]
        while waiting:
            folder, real = waiting.pop()
            if real in self.listed:
                self.skipped.append(f"skipped {folder}: it is the folder {self.listed[real]}")
                continue
            if real == self.besides:
                if any(real.iterdir()):
                    self.skipped.append(f"skipped {folder}: the output folder")
                continue
            self.listed[real] = folder
            for entry in entries_of(folder):
                path = folder / entry.name
                kind = kind_of(entry)
                if kind != FOLDER:
                    self.entries.append((path, kind))
                elif entry.name in SYSTEM_FOLDERS:
                    self.skipped.append(f"skipped {path}: a system folder")
                elif entry.name.startswith("."):
                    continue
                elif entry.is_symlink():
                    heapq.heappush(self.links, (path, real, path.resolve()))
                else:
                    waiting.append((path, real / entry.name))


FOLDER = "folder"
KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def kind_of(entry: os.DirEntry[str]) -> str:
    """FOLDER, "" for a file, or what else it is. A link is what it points to."""
    try:
        if entry.is_dir():
            return FOLDER
        if entry.is_file():
            return ""
        return f"{KINDS.get(stat.S_IFMT(entry.stat().st_mode), 'something')}, not a file"
    except OSError as error:  # a broken link, a link to itself, or one to where nothing can be read
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        target = f"a link to {Path(entry.path).readlink()}" if entry.is_symlink() else "lost"
        return f"{target}: {reason}"


def refuse_two_of_a_name(images: Iterable[Path]) -> None:
    """Report a DataError if a name occurs twice, apart from its suffix: two images would share a mask, or one
    would be two samples.
    """
    counts = Counter(nfc(str(path.with_suffix(""))) for path in images)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        report(DataError(f"duplicate image name in the split: {twice[0]} ({len(twice)} such names)"))


# --- lists of names -----------------------------------------------------------------------------------------


def lines_of(path: Path) -> list[str]:
    """The non-empty lines of a split's list. Raises DataError."""
    return [line for _, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a split's list, with their numbers in the file, from 1. Raises DataError.

    A name that is not UTF-8 stays the bytes that it is on the disk. Windows' shell writes lists in UTF-16.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith(UTF_16) else "utf-8-sig"
    text = content.decode(encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "replace")
    if "\0" in text:
        raise DataError(f"{path} is not a text file of names")
    all_lines = enumerate(re.split(r"\r\n|\r|\n", text), start=1)
    lines = [(number, line.strip()) for number, line in all_lines if line.strip()]
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
