"""What a row of the table is."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """What a row found. passed: None where it cannot run on this machine; `words` then say what stands in for
    it.
    """

    words: str
    passed: bool | None


class Row(NamedTuple):
    """`run(work)` measures in the empty folder `work`."""

    number: int  # in the table of docs/reliability.md, whose other rows are held by tests
    test: str
    target: str
    run: Callable[[Path], Measured]
