"""python -m benchmarks.chaos [ROW ...]: run all rows, or those with these numbers, and print the table. Exit
code 1 if one misses its target.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chaos.commands import end_all
from benchmarks.chaos.row import Measured, Row
from benchmarks.chaos.table import ROWS

VERDICTS = {True: "met", False: "MISSED", None: "not run"}


def measured(row: Row) -> Measured:
    """The result of a row; one that raises an error has missed its target."""
    with tempfile.TemporaryDirectory(prefix=f"chaos-{row.number}-") as work:
        try:
            return row.run(Path(work))
        except Exception as error:  # noqa: BLE001 - the other rows still run
            return Measured(f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}", False)
        finally:
            end_all()


def main(numbers: list[int]) -> int:
    root = Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(root), os.environ.get("PYTHONPATH")])
    )  # of the processes that rows start
    begin, passed = time.monotonic(), True
    print("| # | test | target | measured | verdict | seconds |\n|---|---|---|---|---|---|", flush=True)
    for row in [row for row in ROWS if not numbers or row.number in numbers]:
        started = time.monotonic()
        found = measured(row)
        passed &= found.passed is not False
        took = time.monotonic() - started
        print(
            f"| {row.number} | {row.test} | {row.target} | {found.words} | {VERDICTS[found.passed]} | "
            f"{took:.0f} |",
            flush=True,
        )
    print(
        f"\n{time.monotonic() - begin:.0f} s in total; "
        f"{'all targets met' if passed else 'some targets MISSED'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
