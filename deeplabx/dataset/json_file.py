"""JSON that others wrote: every fault of a file is a DataError. A large list is read element by element, so
that its text and what is kept of it are in memory, but not all its objects.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deeplabx.errors import DataError, quoted

MOST_BYTES = 4 * 2**30
BLANK = re.compile(r"[ \t\r\n]*")
Taker = Callable[[Any], None]


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise DataError(f"{path} has {size:,} bytes, more than {most_bytes:,}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not JSON: it is not UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def read_object(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The object of a file, whole."""
    found = read_json(path, most_bytes=most_bytes)
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold an object {{...}}, not {quoted(found)}")
    return found


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """The value of a file, whole."""
    text = read_text(path, most_bytes=most_bytes)
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise not_json(path, text, error) from None


def read_lists(path: Path, takers: Mapping[str, Taker]) -> set[str]:
    """Give each element of the file's lists of these names to its taker, in the order of the file. Returns
    the names that were found.
    """
    text = read_text(path)
    try:
        return walk(text, takers)
    except (ValueError, RecursionError) as error:
        raise not_json(path, text, error) from None


def walk(text: str, takers: Mapping[str, Taker]) -> set[str]:
    found: set[str] = set()
    place = after(text, 0, "{")
    while not text.startswith("}", place):
        if found:
            place = after(text, place, ",")
        name, place = DECODER.raw_decode(text, place)
        if not isinstance(name, str) or name in found:
            raise ValueError(f"{'duplicate' if isinstance(name, str) else 'wrong'} key {quoted(name)}")
        found.add(name)
        place = after(text, place, ":")
        if name in takers:
            place = elements(text, place, takers[name], name)
        else:
            _, place = DECODER.raw_decode(text, place)
        place = BLANK.match(text, place).end()  # type: ignore[union-attr]
    after(text, place, "}", last=True)
    return found


def elements(text: str, place: int, take: Taker, name: str) -> int:
    """Give each element of the list that begins at `place` to `take`; where the list ends."""
    if not text.startswith("[", place):
        raise ValueError(f"{name} is not a list")
    place = after(text, place, "[")
    if text.startswith("]", place):
        return place + 1
    while True:
        element, place = DECODER.raw_decode(text, place)
        take(element)
        place = BLANK.match(text, place).end()  # type: ignore[union-attr]
        if text.startswith("]", place):
            return place + 1
        place = after(text, place, ",")


def after(text: str, place: int, mark: str, *, last: bool = False) -> int:
    """The place behind `mark` and blanks. Raises ValueError where it is not there, or where more follows the
    last.
    """
    place = BLANK.match(text, place).end()  # type: ignore[union-attr]
    if not text.startswith(mark, place):
        raise json.JSONDecodeError(f"{mark} expected", text, place)
    place = BLANK.match(text, place + 1).end()  # type: ignore[union-attr]
    if last and place < len(text):
        raise json.JSONDecodeError("more text", text, place)
    return place


def not_json(path: Path, text: str, error: Exception) -> DataError:
    if isinstance(error, RecursionError):
        return DataError(f"{path} is not readable JSON: lists within lists, too deep")
    if not text.strip():
        return DataError(f"{path} is empty")
    return DataError(f"{path} is not readable JSON: {' '.join(str(error).split())[:160]}")


def number(value: Any) -> float | None:
    """A finite number of a JSON file; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def nan_number(value: Any) -> float:
    """The same, with nan in place of None."""
    found = number(value)
    return math.nan if found is None else found
