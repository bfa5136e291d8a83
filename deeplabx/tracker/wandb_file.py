"""W&B's offline files: LevelDB's log of records, with a header of W&B's own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplabx.errors import ConfigError, needed

MAGIC, START = b":W&B", 7  # bytes before the first block
BLOCK, HEAD = 32_768, 7  # bytes of a block, and before each part of a record: checksum, length, kind
WHOLE, LAST = 1, 4  # kinds of a part that end a record


def records(path: Path) -> Iterator[bytes]:
    """The records of a file; one that a killed process left cut off is not one. Raises ConfigError for a file
    of another format.
    """
    content = path.read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise ConfigError(
            f"{path} is no file of a format that deeplabx reads", hint="remove tracker.json beside wandb/"
        )
    place, parts = START, b""
    while place + HEAD <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEAD:  # too few for a part: zeros up to the next block
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if place + HEAD + size > len(content):
            return
        parts += content[place + HEAD : place + HEAD + size]
        place += HEAD + size
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


def logged(path: Path) -> Iterator[dict[str, Any]]:
    """What was logged, by name; of an image its parts, such as samples/path."""
    kind = needed("wandb.proto.wandb_internal_pb2", extra="wandb").Record
    for content in records(path):
        record = kind()
        record.ParseFromString(content)
        if record.HasField("history"):
            items = record.history.item
            yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
