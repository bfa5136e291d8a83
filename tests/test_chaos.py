"""The reliability bench (`make chaos`) in short: the rows that no other test holds, in seconds each."""

from pathlib import Path

import pytest

from benchmarks.chaos.commands import end_all
from benchmarks.chaos.table import ROWS

IN_SHORT = (1, 2, 3, 10, 11, 12, 13, 16, 17, 19)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.number in IN_SHORT], ids=lambda row: f"{row.number}-{row.test}"
)
def test_a_row_of_the_table_holds(row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # of the processes that the row starts
    try:
        found = row.run(tmp_path, True)
    finally:
        end_all()
    assert found.passed, found.words


def test_every_row_of_the_table_is_there() -> None:
    assert [row.number for row in ROWS] == list(range(1, 22))
