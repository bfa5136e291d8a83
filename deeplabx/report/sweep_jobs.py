"""The jobs of a sweep, as its sweep.json holds them."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from deeplabx.dataset.json_file import refuse_constant
from deeplabx.errors import CheckpointError, ConfigError, printable

SUMMARY = "sweep.json"
FORMAT = 1
LONGEST_PATH = 4096  # characters
LARGEST = 256 * 2**20  # bytes of a sweep.json that is read
PLANNED, QUEUED, RUNNING, DONE, PRUNED = "planned", "queued", "running", "done", "pruned"
FAILED, STOPPED = "failed", "stopped"
FINISHED = (DONE, PRUNED)  # what `sweep resume` does not run again
STATES = (PLANNED, QUEUED, RUNNING, DONE, PRUNED, FAILED, STOPPED)
JOB_FIELDS: dict[str, tuple[type, ...]] = {
    "job": (int,),
    "overrides": (list,),
    "folder": (str,),
    "status": (str,),
    "miou": (float, int, type(None)),
    "seconds": (float, int),
}
OPTIONAL_FIELDS: dict[str, tuple[type, ...]] = {"exit_code": (int,), "error": (str,), "slurm": (str,)}
RANGES = {"miou": (-1.0, 1.0), "seconds": (0.0, 1e12), "exit_code": (0, 255)}
SweepJob = dict[str, Any]  # JOB_FIELDS, and those of OPTIONAL_FIELDS that it has


def read_jobs(folder: Path) -> list[SweepJob]:
    """The jobs of the sweep in `folder`. Raises as `read_summary`."""
    return checked_jobs(folder / SUMMARY, read_summary(folder))


def read_summary(folder: Path) -> dict[str, Any]:
    """What sweep.json in `folder` holds, with a list of jobs that are not checked yet.

    Raises CheckpointError where there is none, or it is not what a sweep writes, and ConfigError for one of
    another version's form.
    """
    path = folder / SUMMARY
    if not os.path.isfile(path):  # noqa: PTH113 - pathlib raises where a name is too long
        raise CheckpointError(
            f"{folder} is not the folder of a sweep: it has no {SUMMARY}",
            hint=f"type {folder.parent}"
            if os.path.isfile(folder.parent / SUMMARY)  # noqa: PTH113
            else "give the folder that train -m printed, outputs/sweep/STAMP",
        )
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise CheckpointError(f"{path} has {size:,} bytes: no sweep writes so many")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {' '.join(str(error).split())[:200]}", hint="restore it from a backup"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("jobs"), list):
        raise damaged(path, "it has no list of jobs")
    if content.get("format") != FORMAT:
        raise ConfigError(
            f"{path} was written by another version of deeplabx: its format is "
            f"{printable(str(content.get('format')), 40)}, not {FORMAT}",
            hint="resume it with the version that wrote it; its finished jobs are ordinary runs",
        )
    return content


def damaged(path: Path, words: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {words}", hint="restore it from a backup")


def checked_jobs(path: Path, content: Mapping[str, Any]) -> list[SweepJob]:
    """The jobs of a sweep.json at `path`. Raises CheckpointError."""
    return [checked_job(path, at, job) for at, job in enumerate(content["jobs"])]


def checked_job(path: Path, at: int, job: Any) -> SweepJob:
    """A job of sweep.json. Raises CheckpointError where it is not one that a sweep writes."""
    if not isinstance(job, dict):
        raise damaged(path, f"job {at} is not a table")
    for name, kinds in {**JOB_FIELDS, **OPTIONAL_FIELDS}.items():
        if name not in job and name in OPTIONAL_FIELDS:
            continue
        if name not in job or not is_usable(name, job[name], kinds):
            raise damaged(path, f"job {at} has no usable {name}")
    if unknown := set(job) - set(JOB_FIELDS) - set(OPTIONAL_FIELDS):
        raise damaged(path, f"job {at} has {printable(min(map(str, unknown)), 40)}, which no sweep writes")
    if job["job"] != at or not is_texts(job["overrides"]) or job["status"] not in STATES:
        raise damaged(path, f"job {at} is not what a sweep writes")
    for one in job["overrides"]:
        if one.lstrip("+~").startswith("hydra"):
            raise damaged(path, f"job {at} overrides {printable(one, 60)}")
    if not is_inside(job["folder"]):
        raise damaged(path, f"the folder of job {at} is not inside the sweep")
    slurm = job.get("slurm", "0")
    if not slurm.replace("_", "").isascii() or not slurm.replace("_", "").isalnum():
        raise damaged(path, f"job {at} has no usable slurm")
    if job["status"] == DONE and job["miou"] is None and job.get("error"):
        raise damaged(path, f"job {at} is done and has an error")
    return job


def is_usable(name: str, value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a field of a job has a value of its type and in its range."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        return False
    low, high = RANGES.get(name, (-math.inf, math.inf))
    return not isinstance(value, int | float) or low <= value <= high  # not of nan


def is_inside(folder: str) -> bool:
    """Whether a relative path leads into the sweep's folder, and is not that folder."""
    path = PurePosixPath(folder)
    return (
        is_text(folder)
        and len(folder) <= LONGEST_PATH
        and bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
    )


def is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))
