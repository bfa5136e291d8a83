"""What is finished of a long prediction, on the disk, so that it can go on after its process was killed."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplabx.engine.durable import arriving_file, remove, replace
from deeplabx.errors import DataError

SETTINGS = "settings.json"
LEVEL = 1  # of zlib: ids of one class side by side become small at any
VERSION = 1


class Part(NamedTuple):
    """A layer of a finished band. values: rows x columns; None where it holds no data at all."""

    top: int
    left: int
    size: tuple[int, int]
    values: np.ndarray | None
    counts: Mapping[str, int]


class Journal:
    """A folder with a file for each layer of each finished band.

    same: what the result depends on; a folder that was written with anything else is emptied. chosen: what
    was decided once, by the memory that was free; of an older folder, what was decided then.
    """

    def __init__(self, folder: Path, *, same: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        self.folder = folder
        self.same = json.loads(json.dumps({"version": VERSION, **same}))
        self.chosen = dict(chosen)
        stored = self.stored()
        self.other = [] if stored is None else differing(stored.get("same"), self.same)
        if stored is None or self.other:
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name != ".lock":
                    remove(path)
            folder.mkdir(parents=True, exist_ok=True)
            replace(folder / SETTINGS, json.dumps({"same": self.same, "chosen": self.chosen}, indent=2))
        else:
            self.chosen = dict(stored["chosen"])

    def stored(self) -> dict[str, Any] | None:
        path = self.folder / SETTINGS
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def place(self, number: int, layer: str) -> Path:
        return self.folder / f"{number:06d}.{layer}"

    def finished(self, last_layer: str) -> int:
        """How many bands are complete, from the first one on. last_layer: the one that is written last."""
        number = 0
        while self.place(number, last_layer).is_file():
            number += 1
        return number

    def write(self, number: int, layer: str, part: Part) -> None:
        values = part.values
        head = {
            **{"top": part.top, "left": part.left, "size": part.size, "counts": part.counts},
            "dtype": None if values is None else values.dtype.str,
        }
        with arriving_file(self.place(number, layer)) as path:
            data = b"" if values is None else zlib.compress(values.tobytes(), LEVEL)
            path.write_bytes(json.dumps(head).encode() + b"\n" + data)

    def read(self, number: int, layer: str, *, head_only: bool = False) -> Part:
        """head_only: without the values. Raises DataError for a file that a disk has damaged."""
        path = self.place(number, layer)
        try:
            with path.open("rb") as file:
                head = json.loads(file.readline())
                data = b"" if head_only else file.read()
            values = None
            if data:
                values = np.frombuffer(zlib.decompress(data), head["dtype"]).reshape(head["size"])
            return Part(head["top"], head["left"], tuple(head["size"]), values, head["counts"])
        except (ValueError, KeyError, TypeError, zlib.error):
            raise DataError(
                f"{path} is damaged", hint=f"remove {self.folder}, then start the prediction again"
            ) from None


def differing(stored: Any, own: Mapping[str, Any]) -> list[str]:
    """The names of what differs."""
    if not isinstance(stored, dict):
        return ["its settings"]
    return sorted(name for name in {*stored, *own} if stored.get(name) != own.get(name))
