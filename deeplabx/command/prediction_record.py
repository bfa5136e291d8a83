"""What a prediction notes of itself in its folder, so that a later one with the same settings continues."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from deeplabx.command.placement import Task
from deeplabx.engine.durable import replace
from deeplabx.errors import ConfigError, listed, quoted

NAME = "predict.json"
DONE = ".done-{rank}.jsonl"  # a line for each image that a process finished
BEFORE = "before"  # the rank of the list of all earlier predictions


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note the settings of a prediction, by their dotted keys. Raises ConfigError where the folder has one
    with other settings: the files would not belong together.
    """
    path = folder / NAME
    if not path.exists():
        replace(path, json.dumps(settings, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in settings if before.get(key) != settings[key]]
    except (ValueError, AttributeError):
        raise ConfigError(
            f"{path} is not what a prediction writes", hint="give another out=FOLDER, or remove it"
        ) from None
    if different:
        changes = [f"{key} was {quoted(before.get(key))}, is {quoted(settings[key])}" for key in different]
        raise ConfigError(
            f"{folder} holds a prediction with other settings: {listed(changes, 3)}",
            hint="give another out=FOLDER, or remove that folder",
        )


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def state_of(source: Path) -> list[int]:
    """What changes when a file does: its size and the time of its last change."""
    status = source.stat()
    return [status.st_size, status.st_mtime_ns]


class Done:
    """What earlier predictions into a folder have finished, of all of their processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: dict[str, Any] = {}
        self.sources: dict[str, str] = {}  # of the files that are there
        self.begun: dict[str, Any] = {}  # videos: their frames are finished one by one
        before = folder / DONE.format(rank=BEFORE)
        lists = sorted(set(folder.glob(DONE.format(rank="*"))) - {before})
        for path in [before, *lists] if before.is_file() else lists:
            for line in path.read_bytes().splitlines():
                self.take(line)
        self.join(before, lists)

    def join(self, before: Path, lists: Sequence[Path]) -> None:
        """Make one list of all. The next prediction may give an image to another process: in lists of their
        own, none would say which of two lines is the later one.
        """
        if lists:
            entries = [*self.images.values(), *self.begun.values()]
            replace(before, "".join(f"{json.dumps(entry)}\n" for entry in entries))
            for path in lists:
                path.unlink()

    def take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return  # the process was killed while it wrote this line
        source = entry["source"]
        if "files" not in entry:
            self.begun[source] = entry
            return
        self.images.pop(source, None)  # later lines come after earlier ones, also in the list of all
        self.images[source] = entry
        for file in entry["files"]:
            other = self.sources.get(file, source)
            if other != source:
                self.images.pop(other, None)  # whose file was replaced
            self.sources[file] = source

    def has(self, task: Task) -> bool:
        """Whether all files of a task are there as they were written, and its source is unchanged."""
        entry = self.images.get(key_of(task))
        if entry is None or not unchanged(task, entry):
            return False
        return entry["files"] == sizes_of(task, self.folder)

    def replaced_by(self, tasks: Sequence[Task]) -> dict[str, str]:
        """The files that these tasks will replace though they are another image's, with its source."""
        found = {}
        for task in tasks:
            for path in task.files.values():
                file = path.relative_to(self.folder).as_posix()
                if path.exists() and self.sources.get(file, key_of(task)) != key_of(task):
                    found[file] = self.sources[file]
        return found

    def has_begun(self, task: Task) -> bool:
        """Whether the frames that are there are those of this video as it is now."""
        entry = self.begun.get(key_of(task))
        return entry is not None and unchanged(task, entry)

    def has_other(self, task: Task) -> bool:
        """Whether the frames that are there are those of a video that has changed since."""
        return key_of(task) in self.begun and not self.has_begun(task)


def key_of(task: Task) -> str:
    return os.path.abspath(task.source)  # noqa: PTH100 - pathlib's keeps ..


def unchanged(task: Task, entry: Mapping[str, Any]) -> bool:
    try:
        return entry["state"] == state_of(task.source)
    except OSError:
        return False


def sizes_of(task: Task, folder: Path) -> dict[str, int]:
    """The size of each file of a task; of a folder of frames, their number."""
    sizes = {}
    for path in task.files.values():
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            sizes[name] = len(list(path.iterdir()))
        elif path.is_file():
            sizes[name] = path.stat().st_size
    return sizes


class Noting:
    """Adds lines to the list of one process. A line that a kill cut short does not spoil the next."""

    def __init__(self, folder: Path, *, rank: int) -> None:
        self.folder, self.path = folder, folder / DONE.format(rank=rank)
        self.file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.file = self.path.open("ab")
        self.file.write(b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.file is not None
        self.file.close()

    def begun(self, task: Task, state: Sequence[int]) -> None:
        """Of a video: the frames that are there from now on are those of this one."""
        self.add({"source": key_of(task), "state": state})

    def done(self, task: Task, state: Sequence[int]) -> None:
        """`state`: of the source before it was read."""
        entry = {"source": key_of(task), "state": state, "files": sizes_of(task, self.folder)}
        self.add(entry)

    def add(self, entry: Mapping[str, Any]) -> None:
        assert self.file is not None
        self.file.write(json.dumps(entry).encode() + b"\n")
        self.file.flush()
