"""The rows, in their order."""

from benchmarks.chaos import canaries, cost, disk, files, kills, loop, overrides, processes
from benchmarks.chaos.row import Row

ROWS: list[Row] = sorted(
    [
        row
        for module in (canaries, cost, disk, files, kills, loop, overrides, processes)
        for row in module.ROWS
    ],
    key=lambda row: row.number,
)
