"""A row of the table."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """The result of a row. passed: None if it cannot run on this machine; `words` then says what covers it
    instead.
    """

    words: str
    passed: bool | None


class Row(NamedTuple):
    """`run(work)` runs the test in the empty folder `work`."""

    number: int  # in the table of docs/reliability.md, whose other rows are covered by tests
    test: str
    target: str
    run: Callable[[Path], Measured]
