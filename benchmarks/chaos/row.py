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
    """`run(work, short)` measures in the empty folder `work`; short: the form that the test suite runs, in
    seconds.
    """

    number: int
    test: str
    target: str
    run: Callable[[Path, bool], Measured]
