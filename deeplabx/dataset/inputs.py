"""What a prediction is given: images, folders, patterns, lists of paths, videos. Standard library only."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset.listing import IMAGE_SUFFIXES, Found, RealFolders, found_in, input_images, lines_of
from deeplabx.errors import DataError, listed

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
LIST_SUFFIX = ".txt"
MAGIC = "*?["  # what makes a path a pattern, as in a shell
HOW_TO_GIVE = "give image files, folders of images, patterns in quotes, lists (.txt) or videos"


class Given(NamedTuple):
    """What one input names. base: the folder that the places of its outputs are relative to."""

    base: Path
    found: Found


def given_by(source: str | Path, *, besides: Path | None = None) -> Given:
    """The files of one input, without those in the folder `besides`. Raises DataError if there are none."""
    path = Path(source)
    if path.is_dir():
        return Given(path, input_images(path, besides=besides))
    if path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            return given_by_list(path, besides=besides)
        return Given(path.parent, Found([path], [], [], ""))
    if is_pattern(path):
        return given_by_pattern(path, besides=besides)
    raise DataError(f"input={source} does not exist", hint=HOW_TO_GIVE)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_pattern(path: Path) -> bool:
    return any(character in str(path) for character in MAGIC)


def refuse_absent(source: str | Path) -> None:
    """Raise DataError for an input that does not exist, a pattern that nothing matches, and a list with
    entries that do not exist. Folders are not looked into.
    """
    path = Path(source)
    if path.is_dir():
        return
    if path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            entries_of_list(path)
    elif not is_pattern(path):
        raise DataError(f"input={source} does not exist", hint=HOW_TO_GIVE)
    elif next(glob.iglob(str(path), recursive=True), None) is None:  # noqa: PTH207 - as below
        raise DataError(f"input={source} matches no file", hint=HOW_TO_GIVE)


# --- lists --------------------------------------------------------------------------------------------------


def given_by_list(path: Path, *, besides: Path | None) -> Given:
    """The files and folders in a list, one on a line, each relative to the list's own folder.
    Raises DataError if there are none.
    """
    entries = entries_of_list(path)
    base = Path(os.path.normpath(path.parent))
    if not all(entry.is_relative_to(base) for entry in entries):
        entries = [entry.absolute() for entry in entries]
        base = Path(os.path.commonpath([entry.parent for entry in entries]))
    found = joined(found_at(entries, besides=besides))
    if not found.paths and not found.unreadable:
        words = f" ({'; '.join(found.left_out)})" if found.left_out else ""
        raise DataError(f"{path}: its folders hold no images{words}", hint=HOW_TO_GIVE)
    return Given(base, found)


def entries_of_list(path: Path) -> list[Path]:
    """The paths in a list. Raises DataError that names all that do not exist."""
    lines = lines_of(path)
    entries = [Path(os.path.normpath(path.parent / line)) for line in lines]
    absent = [line for line, entry in zip(lines, entries, strict=True) if not entry.exists()]
    if absent:
        raise DataError(
            f"{path}: {len(absent)} of {len(lines)} listed paths do not exist: {listed(absent)}",
            hint=f"paths in a list are relative to the list's own folder, {path.parent}",
        )
    return entries


# --- patterns -----------------------------------------------------------------------------------------------


def given_by_pattern(pattern: Path, *, besides: Path | None) -> Given:
    """The images and videos that a pattern matches, and the images below the folders that it matches; with
    ** in it, the files alone, as it matches the folders between them too.
    """
    base = Path(*leading(pattern.parts, MAGIC))
    # glob, because pathlib's patterns are relative and match hidden files
    matches = [Path(one) for one in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207
    if not matches:
        raise DataError(f"input={pattern} matches no file", hint=HOW_TO_GIVE)
    files = [one for one in matches if one.is_file()]
    wanted = [one for one in files if one.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)]
    folders = [] if "**" in pattern.parts else [one for one in matches if one.is_dir()]
    found = joined([*found_at(wanted, besides=besides), *found_at(folders, besides=besides)])
    others = len(files) - len(wanted)
    words = [f"left out of {pattern}: {others} files that are neither images nor videos"] if others else []
    if not found.paths and not found.unreadable:
        raise DataError(
            f"input={pattern} matches no image or video, but {len(matches)} other files and folders",
            hint=f"looked for {' '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}",
        )
    return Given(base, found._replace(left_out=[*found.left_out, *words]))


def leading(parts: Iterable[str], magic: str) -> Iterator[str]:
    """The parts of a path before the first with a character of a pattern."""
    for part in parts:
        if any(character in part for character in magic):
            return
        yield part


# --- both ---------------------------------------------------------------------------------------------------


def found_at(paths: list[Path], *, besides: Path | None) -> Iterator[Found]:
    """Each file, once where links lead to it several times, and what is below each folder; not what is in
    `besides`.
    """
    real, seen = RealFolders(), set()
    skipped = besides.resolve() if besides is not None else None
    for path in paths:
        if path.is_dir():
            yield found_in(path, besides=besides)
            continue
        place = real.path(path)
        if skipped is not None and place.is_relative_to(skipped):
            yield Found([], [], [f"skipped {besides}: the output folder"], "")
        elif place not in seen:
            seen.add(place)
            yield Found([path], [], [], "")


def joined(parts: Iterable[Found]) -> Found:
    parts = list(parts)
    return Found(
        [path for part in parts for path in part.paths],
        [words for part in parts for words in part.unreadable],
        list(dict.fromkeys(words for part in parts for words in part.left_out)),
        ", ".join(part.suffixes for part in parts if part.suffixes),
    )
