"""tracker.json in a run's folder: under what id each tracker knows the run."""

import json
import os
from pathlib import Path

from deeplabx.errors import ConfigError

NAME = "tracker.json"
LARGEST = 100_000  # bytes


def read_record(folder: Path, tracker: str) -> dict[str, str]:
    """What a tracker keeps of the run; empty where there is nothing. Raises ConfigError for a file that is
    not one of ours.
    """
    return read_all(folder / NAME).get(tracker, {})


def read_all(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
        tables = [found, *found.values()] if isinstance(found, dict) else [None]
        if not all(isinstance(one, dict) for one in tables):
            raise ValueError("not a table of tables")
        if not all(isinstance(value, str) for table in found.values() for value in table.values()):
            raise ValueError("a value is not a text")
    except (OSError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{path} cannot be read: {words}", hint="remove it, and the run begins a new record"
        ) from None
    return found


def write_record(folder: Path, tracker: str, values: dict[str, str]) -> None:
    """Replace what a tracker keeps of the run."""
    path = folder / NAME
    every = {**read_all(path), tracker: values}
    temporary = path.with_name(f".tmp-{NAME}")
    temporary.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)  # noqa: PTH105 - so that the file is always whole
