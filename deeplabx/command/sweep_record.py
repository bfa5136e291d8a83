"""sweep.json: the jobs of a sweep, and what is needed to run them again. Written whole after every change."""

import fcntl
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from deeplabx import __version__, registry
from deeplabx.command import sweep_settings
from deeplabx.command.table import BY_WORDS
from deeplabx.config import schema
from deeplabx.engine.durable import replace
from deeplabx.engine.lock import HELD, NAME, lock, locked
from deeplabx.errors import CheckpointError, ConfigError, printable
from deeplabx.run import plugins

SUMMARY = "sweep.json"
FORMAT = 1
LARGEST = 256 * 2**20  # bytes of a sweep.json that is read
PLANNED, QUEUED, RUNNING, DONE, PRUNED = "planned", "queued", "running", "done", "pruned"
FAILED, STOPPED = "failed", "stopped"
FINISHED = (DONE, PRUNED)  # what `sweep resume` does not run again
STATES = (PLANNED, QUEUED, RUNNING, DONE, PRUNED, FAILED, STOPPED)
FLAGS = ("--config-dir", "--config-name", "--config-path")
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
Job = dict[str, Any]  # JOB_FIELDS, and those of OPTIONAL_FIELDS that it has


@dataclass
class Sweep:
    """A sweep, as its sweep.json holds it."""

    folder: Path
    command: str
    flags: dict[str, str]
    hydra: list[str]  # overrides of Hydra's own settings that all jobs have
    overrides: list[str]  # of the command's settings, sweeps included, as Hydra reads them
    cwd: str  # what relative paths are relative to
    plugins: list[plugins.Record]
    settings: schema.SweepConfig
    jobs: list[Job] = field(default_factory=list)
    version: str = __version__

    @property
    def path(self) -> Path:
        return self.folder / SUMMARY

    def job_folder(self, job: Job) -> Path:
        return self.folder / job["folder"]

    def write(self) -> None:
        content = {
            "format": FORMAT,
            "deeplabx": self.version,
            "command": self.command,
            "flags": self.flags,
            "hydra": self.hydra,
            "overrides": self.overrides,
            "cwd": self.cwd,
            "plugins": self.plugins,
            "settings": sweep_settings.plain(self.settings),
            "jobs": self.jobs,
        }
        replace(self.path, json.dumps(content, indent=2) + "\n")

    def add(self, overrides: list[str], folder: str) -> Job:
        job: Job = {
            "job": len(self.jobs),
            "overrides": overrides,
            "folder": folder,
            "status": PLANNED,
            "miou": None,
            "seconds": 0.0,
        }
        self.jobs.append(job)
        return job

    def words(self, job: Job) -> str:
        """What a job has that not all have."""
        own = [one for one in job["overrides"] if one not in self.overrides]
        return " ".join(own or job["overrides"])

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs if job["status"] not in FINISHED]


def needed_plugins() -> list[plugins.Record]:
    """The plug-ins that were named on the command line and have registered something."""
    given = [Path(key) for key in plugins.GIVEN]
    folders = {one.parent for one in given if one.is_absolute()}
    names = {one.stem if one.is_absolute() else str(one).partition(".")[0] for one in given}
    options: dict[str, list[registry.Option]] = {}
    for option in plugins.foreign_options():
        name = plugins.owner(option)
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in names or (file is not None and Path(file).parent in folders):
            options.setdefault(name, []).append(option)
    return [plugins.described(name, found) for name, found in options.items()]


# --- read ---------------------------------------------------------------------------------------------------


def read(folder: Path) -> Sweep:
    """The sweep in `folder`. Raises CheckpointError where there is none, or its sweep.json is not what a
    sweep writes, and ConfigError for one of another version's form.
    """
    path = folder / SUMMARY
    if not os.path.isfile(path):  # noqa: PTH113 - pathlib raises where a name is too long
        raise CheckpointError(
            f"{folder} is not the folder of a sweep: it has no {SUMMARY}",
            hint="give the folder that train -m printed, outputs/sweep/STAMP",
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
    return from_content(folder, content)


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a value of JSON")


def damaged(path: Path, words: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {words}", hint="restore it from a backup")


def from_content(folder: Path, content: dict[str, Any]) -> Sweep:
    path = folder / SUMMARY
    texts = {name: content.get(name) for name in ("deeplabx", "command", "cwd")}
    for name, text in texts.items():
        if not is_text(text):
            raise damaged(path, f"{name} is not a text")
    command = BY_WORDS.get(str(texts["command"]))
    if command is None or not command.schema:
        raise damaged(path, f"there is no command {printable(str(texts['command']), 40)} with settings")
    flags = content.get("flags")
    if not isinstance(flags, dict) or not all(key in FLAGS and is_text(flags[key]) for key in flags):
        raise damaged(path, "flags is not a table of folders")
    for name in ("hydra", "overrides"):
        if not is_texts(content.get(name)):
            raise damaged(path, f"{name} is not a list of texts")
    try:
        settings = sweep_settings.from_plain(content.get("settings"), source=path)
    except ConfigError as error:
        raise damaged(path, error.message) from None
    for one in content["hydra"]:
        refuse_code(path, one)
    jobs = [checked_job(path, number, one) for number, one in enumerate(content["jobs"])]
    return Sweep(
        folder=folder,
        command=command.words,
        flags=flags,
        hydra=content["hydra"],
        overrides=content["overrides"],
        cwd=str(texts["cwd"]),
        plugins=plugins.checked(content.get("plugins"), source=path),
        settings=settings,
        jobs=jobs,
        version=str(texts["deeplabx"]),
    )


def refuse_code(path: Path, override: str) -> None:
    """Raise ConfigError for an override with which Hydra would import something: a file may not say so."""
    key = override.lstrip("+~").partition("=")[0]
    if key.startswith(("hydra/", "hydra.launcher", "hydra.sweeper", "hydra.callbacks")) or "pkg:" in override:
        raise ConfigError(
            f"{path} holds {printable(override, 120)}: a file may not name what is imported",
            hint="start the remaining jobs as a sweep of their own",
        )


def is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def checked_job(path: Path, number: int, job: Any) -> Job:
    """A job of sweep.json. Raises CheckpointError where it is not one that a sweep writes."""
    if not isinstance(job, dict):
        raise damaged(path, f"job {number} is not a table")
    for name, kinds in {**JOB_FIELDS, **OPTIONAL_FIELDS}.items():
        if name not in job and name in OPTIONAL_FIELDS:
            continue
        if name not in job or not is_usable(name, job[name], kinds):
            raise damaged(path, f"job {number} has no usable {name}")
    if unknown := set(job) - set(JOB_FIELDS) - set(OPTIONAL_FIELDS):
        raise damaged(
            path, f"job {number} has {printable(min(map(str, unknown)), 40)}, which no sweep writes"
        )
    if job["job"] != number or not is_texts(job["overrides"]) or job["status"] not in STATES:
        raise damaged(path, f"job {number} is not what a sweep writes")
    for one in job["overrides"]:
        if one.lstrip("+~").startswith("hydra"):
            raise damaged(path, f"job {number} overrides {printable(one, 60)}")
    if not is_inside(job["folder"]):
        raise damaged(path, f"the folder of job {number} is not inside the sweep")
    slurm = job.get("slurm", "0")
    if not slurm.replace("_", "").isascii() or not slurm.replace("_", "").isalnum():
        raise damaged(path, f"job {number} has no usable slurm")
    if job["status"] == DONE and job["miou"] is None and job.get("error"):
        raise damaged(path, f"job {number} is done and has an error")
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
    return is_text(folder) and bool(path.parts) and not path.is_absolute() and ".." not in path.parts


# --- one process at a time ----------------------------------------------------------------------------------


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder of a sweep. Raises ConfigError if another process runs its jobs."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = locked(folder)
    try:
        warning = holder.__enter__()
    except ConfigError as error:
        error.hint = f"wait for it; deeplabx sweep show {folder} lists its jobs"
        raise
    try:
        if warning:
            print(warning, file=sys.stderr)
        yield
    finally:
        (folder / NAME).unlink(missing_ok=True)
        holder.__exit__(None, None, None)


def is_at_work(folder: Path) -> bool:
    """Whether another process runs the jobs of this sweep."""
    try:
        file = (folder / NAME).open("r+", encoding="utf-8", errors="replace")
    except OSError:
        return False
    with file:
        try:
            lock(file, fcntl.lockf)
        except HELD:
            return True
    return False
