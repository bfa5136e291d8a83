"""One job of a sweep in a process of its own: python -m deeplabx.command.sweep_job TASK, as `words_of` makes
it. What becomes of the job is written to job.json in its folder, which whoever started it reads.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from deeplabx.command import sweep as sweeps
from deeplabx.command import sweep_record
from deeplabx.command.job import Watch
from deeplabx.command.sweep_record import Sweep
from deeplabx.engine.durable import replace
from deeplabx.errors import DeeplabxError, PreemptedError, StoppedError, report
from deeplabx.process.ending import end_process
from deeplabx.process.signals import WATCHED, end_with_parent
from deeplabx.process.terminal import discard_terminal, show_any_text
from deeplabx.report.sweep_jobs import (
    FAILED,
    JOB_FIELDS,
    OPTIONAL_FIELDS,
    RUNNING,
    STATES,
    SweepJob,
    is_usable,
)
from deeplabx.run import plugins

RESULT = "job.json"
FIELDS = ("status", "miou", "seconds", "exit_code", "error")


# --- who starts it ------------------------------------------------------------------------------------------


def words_of(sweep: Sweep, job: SweepJob, *, cores: Sequence[int] = (), parent: int = 0) -> list[str]:
    """The command line of a job's process. cores: those that it may use; none: all that it has. parent: the
    process with which it ends; 0: none.
    """
    task = {
        "folder": str(sweep.folder.absolute()),
        "job": job["job"],
        "cores": list(cores),
        "parent": parent,
        "plugins": list(plugins.GIVEN),
    }
    # -P: a file in the working folder that is named as a module does not take its place
    return [sys.executable, "-P", "-m", "deeplabx.command.sweep_job", json.dumps(task)]


def environment() -> dict[str, str]:
    """With the modules that this process can import."""
    found = [str(Path(one).absolute()) if one else str(Path.cwd()) for one in sys.path]
    return {"PYTHONPATH": os.pathsep.join(found)}


def result(folder: Path) -> dict[str, Any] | None:
    """What job.json in a job's folder says; None where there is none, or it is not what a job writes."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) - set(FIELDS):
        return None
    kinds = {**JOB_FIELDS, **OPTIONAL_FIELDS}
    whole = all(is_usable(name, value, kinds[name]) for name, value in found.items())
    return found if whole and found.get("status") in STATES and "seconds" in found else None


# --- the process --------------------------------------------------------------------------------------------


def main(argv: list[str]) -> NoReturn:
    for number in WATCHED:
        if number != signal.SIGINT:
            signal.signal(number, leave)
    show_any_text()
    task = json.loads(argv[0])
    if task["parent"]:
        end_with_parent()
        if os.getppid() != task["parent"]:
            sys.exit(1)  # it died while this process was starting
    if task["cores"]:
        os.sched_setaffinity(0, task["cores"])
    end_process(run(Path(task["folder"]), task["job"], task["plugins"]))


def leave(number: int, frame: object) -> NoReturn:
    """The answer to a signal before the first step."""
    if number == signal.SIGHUP:
        discard_terminal()
    sys.exit(PreemptedError.exit_code)


def run(folder: Path, number: int, given: Sequence[str]) -> int:
    """Run the job, and write its result. The exit code."""
    start = time.monotonic()
    own: Path | None = None
    try:
        sweep = sweep_record.read(folder)
        job = sweep.jobs[number]
        own = sweep.job_folder(job)
        write(own, {"status": RUNNING, "seconds": 0.0})
        plugins.load(given)
        ended = sweeps.run_job(sweep, job, watch_of(sweep, job))
        fields, raised = ended.fields, ended.raised
    except DeeplabxError as error:
        report(error)
        fields = {"status": FAILED, "exit_code": error.exit_code, "error": str(error)}
        raised = None
    fields = {**fields, "seconds": round(time.monotonic() - start, 1)}
    if own is not None:
        write(own, fields)
    if isinstance(raised, DeeplabxError):
        report(raised)
    elif isinstance(raised, KeyboardInterrupt):
        report(StoppedError("interrupted"))
    return int(fields.get("exit_code", 0))


def watch_of(sweep: Sweep, job: SweepJob) -> Watch | None:
    if sweep.settings.trials is None or not sweep.settings.prune:
        return None
    from deeplabx.command.sweep_search import Pruning

    return Pruning(sweep.folder, job["job"])


def write(folder: Path, fields: dict[str, Any]) -> None:
    """Write job.json. A full disk is no reason to end: the exit code says how the job ended."""
    try:
        replace(folder / RESULT, json.dumps(fields) + "\n")
    except OSError as error:
        print(f"{folder / RESULT} cannot be written: {error.strerror}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
