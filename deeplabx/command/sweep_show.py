"""deeplabx sweep show: the leaderboard of a sweep, also of one that runs, and of one that was killed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.command.sweep_record import Sweep, is_at_work, read
from deeplabx.errors import DataError, printable, resource_error
from deeplabx.report import leaderboard
from deeplabx.report.metrics_file import evaluations
from deeplabx.report.sweep_jobs import RUNNING, STOPPED, SweepJob
from deeplabx.run import plugins


def main(job: Job) -> None:
    folder = Path(str(job.config.folder))
    show(read(folder), at_work=is_at_work(folder))


def show(sweep: Sweep, *, at_work: bool) -> None:
    """Print the leaderboard, and write leaderboard.csv and sweep.html where a job has begun.

    at_work: whether a process runs the jobs; otherwise those that sweep.json has as running were killed.
    """
    words = needed_words(sweep)
    progress, jobs = {}, []
    for one in sweep.jobs:
        runs = at_work or "slurm" in one
        if one["status"] == RUNNING:
            progress[one["job"]] = running_words(sweep.job_folder(one), at_work=runs)
        jobs.append(one if runs or one["status"] != RUNNING else {**one, "status": STOPPED})
    print(leaderboard.text(jobs, sweep.folder, progress=progress, plugins=words))
    if any(one["miou"] is not None for one in sweep.jobs) or progress:
        write(sweep, jobs, words)


def needed_words(sweep: Sweep) -> str:
    """The plug-ins that the next command needs: as they were given now, else as the sweep's own were."""
    given = plugins.as_overrides()
    return given or "".join(f" plugins={printable(one['given'], 80)}" for one in sweep.plugins)


def running_words(folder: Path, *, at_work: bool) -> str:
    found = evaluations(folder)
    reached = f"mIoU {max(found.values()):.4f} so far, at step {max(found)}" if found else "not evaluated yet"
    return f"running, {reached}" if at_work else f"was killed, {reached}"


def write(sweep: Sweep, jobs: Sequence[SweepJob], words: str) -> None:
    """Write the files. Where that fails, as in another's folder, the reason is printed: the terminal has all
    that matters.
    """
    try:
        leaderboard.write_files(jobs, sweep.folder, plugins=words)
    except (OSError, DataError) as error:
        known = error if isinstance(error, DataError) else resource_error(error)
        reason = str(error) if known is None else known.message
        print(f"leaderboard.csv and sweep.html could not be written: {reason}", file=sys.stderr)
        return
    print(f"written to {sweep.folder / 'sweep.html'} and leaderboard.csv")
