"""What metrics.jsonl of a run says: lines of training steps, with a loss and lr, and of evaluations, with a
mIoU.
"""

import json
from pathlib import Path
from typing import Any

from deeplabx.dataset.json_file import number
from deeplabx.engine.stage_folders import newest_stage
from deeplabx.errors import DataError

MOST_BYTES = 512 << 20
MOST_STEPS = 2**31


def logged(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, in their order; those that cannot be read are left out."""
    return read_lines(path)[0]


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines, in their order, each with its step as an int; and how many cannot be read. The last one may
    be cut off, as of a run that is writing it or was killed, and does not count as either.

    Raises DataError for a file that is too large or cannot be opened.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path} has {size:,} bytes, more than {MOST_BYTES:,}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    found, damaged = [], 0
    for line in content.splitlines(keepends=True):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            damaged += line.endswith(b"\n")
            continue
        step = number(values.get("step")) if isinstance(values, dict) else None
        if step is None or not 0 <= step <= MOST_STEPS:
            damaged += 1
        else:
            found.append({**values, "step": int(step)})
    return found, damaged


def evaluations(folder: Path) -> dict[int, float]:
    """The mIoU of each evaluation of a run, by its step; without values that no evaluation has. Of a staged
    run, those of its newest stage.
    """
    path = newest_stage(folder) / "metrics.jsonl"
    lines = logged(path) if path.is_file() else []
    found = {line["step"]: number(line.get("miou")) for line in lines}
    return {step: miou for step, miou in found.items() if miou is not None and 0 <= miou <= 1}
