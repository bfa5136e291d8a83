"""The rows, in their order."""

from benchmarks.chaos import disk, kills, loading, processes
from benchmarks.chaos.row import Row

ROWS: list[Row] = sorted(
    [*disk.ROWS, *kills.ROWS, *processes.ROWS, *loading.ROWS], key=lambda row: row.number
)
