"""The reliability bench: `make chaos` runs every row of the table and prints target, measured and verdict."""

from benchmarks.chaos import canaries, cost, disk, files, kills, loop, overrides, processes
from benchmarks.chaos.row import Row

ROWS: list[Row] = sorted(
    [row for module in (canaries, cost, disk, files, kills, loop, overrides, processes) for row in module.ROWS], key=lambda row: row.number
)
