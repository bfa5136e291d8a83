"""The jobs of a sweep as a leaderboard: only the settings that vary, the best first, seeds and folds
aggregated. As text, as CSV and as a page.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabx.engine.durable import replace
from deeplabx.errors import printable
from deeplabx.process.terminal import columns, padded
from deeplabx.report.next_commands import (
    compare_words,
    evaluate_words,
    next_line,
    resume_sweep_words,
)
from deeplabx.report.page import (
    Block,
    Card,
    Cell,
    Code,
    Command,
    Fixed,
    Lines,
    Section,
    Table,
    Text,
    Tiles,
    write_page,
)
from deeplabx.report.repeats import FOLD, SEED, mean_over_folds, spread_of_runs
from deeplabx.report.sweep_jobs import DONE, FAILED, FINISHED, STOPPED, SweepJob

MOST_ROWS = 20  # of the leaderboard in a terminal; the files have all
MOST_FAILED = 5  # whose errors a terminal shows
LONGEST_VALUE = 40  # columns of a setting's value in a terminal
UNSET = "-"  # of a setting that a job does not override


@dataclass(frozen=True)
class Row:
    """Jobs that differ only in seed and fold."""

    values: tuple[str, ...]  # of the settings that vary
    jobs: tuple[SweepJob, ...]

    @property
    def done(self) -> list[SweepJob]:
        """The jobs that count, the best first; one without an mIoU does not."""
        found = [job for job in self.jobs if job["status"] == DONE and job["miou"] is not None]
        return sorted(found, key=lambda job: -job["miou"])

    @property
    def mean(self) -> float | None:
        pairs = [(settings_of(job).get(FOLD), job["miou"]) for job in self.done]
        return mean_over_folds(pairs) if pairs else None

    @property
    def std(self) -> float | None:
        return spread_of_runs([job["miou"] for job in self.done])

    @property
    def state(self) -> str:
        counted = Counter(job["status"] for job in self.jobs)
        if len(counted) == 1 and len(self.jobs) == 1:
            return next(iter(counted))
        return ", ".join(f"{count} {status}" for status, count in counted.items())


@dataclass(frozen=True)
class Leaderboard:
    keys: tuple[str, ...]  # settings that vary
    repeats: tuple[str, ...]  # SEED and FOLD, if they vary
    rows: tuple[Row, ...]  # the best first; those without a result last, in their order

    @property
    def best(self) -> Row | None:
        return self.rows[0] if self.rows and self.rows[0].done else None


def settings_of(job: SweepJob) -> dict[str, str]:
    """The overrides of a job as a table."""
    pairs = (one.lstrip("+").partition("=") for one in job["overrides"])
    return {key: value if equals else "removed" for key, equals, value in pairs}


def leaderboard(jobs: Sequence[SweepJob]) -> Leaderboard:
    tables = [settings_of(job) for job in jobs]
    every = list(dict.fromkeys(key for table in tables for key in table))
    varying = [key for key in every if len({table.get(key) for table in tables}) > 1]
    keys = tuple(key for key in varying if key not in (SEED, FOLD))
    groups: dict[tuple[str, ...], list[SweepJob]] = {}
    for job, table in zip(jobs, tables, strict=True):
        groups.setdefault(tuple(table.get(key, UNSET) for key in keys), []).append(job)
    rows = [Row(values, tuple(members)) for values, members in groups.items()]
    rows.sort(key=lambda row: math.inf if row.mean is None else -row.mean)  # stable: equal ones stay in order
    return Leaderboard(keys, tuple(key for key in varying if key in (SEED, FOLD)), tuple(rows))


def score_words(row: Row) -> str:
    if row.mean is None:
        return "-"
    return f"{row.mean:.4f}" if row.std is None else f"{row.mean:.4f} ± {row.std:.4f}"


# --- terminal -----------------------------------------------------------------------------------------------


def text(jobs: Sequence[SweepJob], folder: Path, *, progress: Mapping[int, str], plugins: str = "") -> str:
    """Counts, table, errors, the best, and the next commands.

    progress: words for jobs that run, by their number. plugins: what a command line needs beside the folder.
    """
    board = leaderboard(jobs)
    counted = Counter(job["status"] for job in jobs)
    states = ", ".join(f"{count} {status}" for status, count in counted.items())
    lines = [f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {states}", ""]
    lines += table_lines(board)
    lines += [f"job {number}: {words}" for number, words in progress.items()]
    failed = [job for job in jobs if job["status"] == FAILED]
    for job in failed[:MOST_FAILED]:
        first = (str(job.get("error", "")).splitlines() or [""])[0]
        lines.append(f"job {job['job']} failed: {printable(first, 200)}")
    if len(failed) > MOST_FAILED:
        lines.append(f"... {len(failed) - MOST_FAILED} more have failed; sweep.json has their errors")
    lines += ["", *next_lines(board, folder, unfinished=unfinished(jobs), plugins=plugins)]
    return "\n".join(lines).rstrip()


def table_lines(board: Leaderboard) -> list[str]:
    several = any(len(row.jobs) > 1 for row in board.rows)
    states = any(job["status"] != DONE for row in board.rows for job in row.jobs)
    head = ["mIoU", *(["n"] if several else []), *board.keys, *(["state"] if states else []), "folder"]
    rows = [head]
    for row in board.rows[:MOST_ROWS]:
        n = f"{len(row.done)}" if len(row.done) == len(row.jobs) else f"{len(row.done)}/{len(row.jobs)}"
        shown = [short(value) for value in row.values]
        best = (row.done or row.jobs)[0]
        cells = [score_words(row), *([n] if several else []), *shown, *([row.state] if states else [])]
        rows.append([*cells, printable(best["folder"], 80)])
    widths = [max(columns(row[at]) for row in rows) for at in range(len(head))]
    lines = [
        "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if len(board.rows) > MOST_ROWS:
        lines.append(f"... {len(board.rows) - MOST_ROWS} more rows in leaderboard.csv")
    if several and board.repeats:
        lines.append(
            f"mean ± standard deviation over {' and '.join(board.repeats)}; folder: the best job of the row"
        )
    return lines


def short(value: str) -> str:
    """A setting's value for a terminal: a number that a search drew has many digits."""
    try:
        rounded = f"{float(value):.4g}"
    except ValueError:
        return printable(value, LONGEST_VALUE)
    return rounded if len(rounded) < len(value) and "." in value else value


def unfinished(jobs: Sequence[SweepJob]) -> int:
    return sum(job["status"] not in FINISHED for job in jobs)


def next_lines(board: Leaderboard, folder: Path, *, unfinished: int, plugins: str) -> list[str]:
    lines = []
    if board.best is not None:
        best = board.best.done[0]
        place = folder / best["folder"]
        lines += [
            f"best: {place}, mIoU {best['miou']:.4f}",
            next_line(place, plugins=plugins),
        ]
    if sum(bool(row.done) for row in board.rows) > 1:
        lines.append(f"which is better, and how sure: {compare_words(folder)}")
    if unfinished:
        verb = "job is" if unfinished == 1 else "jobs are"
        lines.append(f"{unfinished} {verb} not finished: {resume_sweep_words(folder, plugins=plugins)}")
    return lines


# --- files --------------------------------------------------------------------------------------------------


def csv_text(jobs: Sequence[SweepJob]) -> str:
    """One line for each row of the leaderboard."""
    board = leaderboard(jobs)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["rank", "miou_mean", "miou_std", "n", "jobs", *board.keys, "state", "best_folder"])
    for rank, row in enumerate(board.rows, start=1):
        best = (row.done or row.jobs)[0]
        scores = ["" if value is None else f"{value:.6f}" for value in (row.mean, row.std)]
        writer.writerow([rank, *scores, len(row.done), len(row.jobs), *row.values, row.state, best["folder"]])
    return written.getvalue().encode("utf-8", "backslashreplace").decode()  # names may be no UTF-8


def write_files(jobs: Sequence[SweepJob], folder: Path, *, plugins: str = "") -> None:
    """Write leaderboard.csv and sweep.html. Raises OSError, and DataError where one is a link or a folder."""
    replace(folder / "leaderboard.csv", csv_text(jobs))
    board = leaderboard(jobs)
    counted = Counter(job["status"] for job in jobs)
    tiles: list[tuple[str, Cell]] = [("jobs", len(jobs))]
    if board.best is not None and board.best.mean is not None:
        what = "best mean mIoU" if len(board.best.done) > 1 else "best mIoU"
        tiles.append((what, Fixed(board.best.mean)))
    tiles += [(status, count) for status, count in counted.items() if status != DONE or len(counted) > 1]
    blocks: list[Block] = [
        Section(
            "Summary",
            [
                Tiles(tiles, {FAILED: "error", STOPPED: "warning"}),
                *commands(board, folder, jobs, plugins),
            ],
        ),
        Section("Leaderboard", board_blocks(board)),
        Section("Jobs", job_blocks(jobs, board)),
    ]
    failed = [job for job in jobs if job["status"] == FAILED]
    if failed:
        cards: list[Block] = [
            Card("error", f"job {job['job']}", [Text(str(job.get("error", "")))]) for job in failed
        ]
        blocks.insert(2, Section("Failed", cards))
    write_page(folder / "sweep.html", f"Sweep {folder.name}", blocks, words=f"{len(jobs)} jobs")


def commands(board: Leaderboard, folder: Path, jobs: Sequence[SweepJob], plugins: str) -> list[Block]:
    found: list[Block] = []
    if board.best is not None:
        place = folder / board.best.done[0]["folder"]
        found.append(Command(evaluate_words(place, plugins=plugins), "Evaluate the best job:"))
    if sum(bool(row.done) for row in board.rows) > 1:
        found.append(Command(compare_words(folder), "Is the best really better, and how sure is that:"))
    if unfinished(jobs):
        found.append(Command(resume_sweep_words(folder, plugins=plugins), "Run what is not finished:"))
    return found


def board_blocks(board: Leaderboard) -> list[Block]:
    rows: list[list[Cell]] = []
    for rank, row in enumerate(board.rows, start=1):
        best = (row.done or row.jobs)[0]
        scores: list[Cell] = [None if value is None else Fixed(value) for value in (row.mean, row.std)]
        rows.append(
            [rank, *scores, len(row.done), *map(Code, row.values), row.state, Code(str(best["folder"]))]
        )
    blocks: list[Block] = [Table(["rank", "mIoU", "std", "n", *board.keys, "state", "best job"], rows)]
    if board.repeats:
        blocks.append(
            Text(
                f"Mean and sample standard deviation over {' and '.join(board.repeats)}, for the n "
                "jobs that are done.",
                quiet=True,
            )
        )
    return blocks


def job_blocks(jobs: Sequence[SweepJob], board: Leaderboard) -> list[Block]:
    shown = [*board.keys, *board.repeats]
    rows: list[list[Cell]] = []
    for job in jobs:
        values, miou = settings_of(job), job["miou"]
        rows.append(
            [
                job["job"],
                Fixed(float(miou)) if miou is not None else None,
                *(Code(values.get(key, UNSET)) for key in shown),
                job["status"],
                Fixed(float(job["seconds"]), 0),
                Code(str(job["folder"])),
            ]
        )
    blocks: list[Block] = [Table(["job", "mIoU", *shown, "state", "seconds", "folder"], rows)]
    done = [job for job in jobs if job["miou"] is not None]
    if len(done) > 2:
        numbers = [float(job["job"]) for job in done]
        best = [max(float(job["miou"]) for job in done[: at + 1]) for at in range(len(done))]
        series = {"mIoU": (numbers, [float(job["miou"]) for job in done]), "best so far": (numbers, best)}
        blocks.append(Lines("mIoU by job", series, "job", "mIoU"))
    return blocks
