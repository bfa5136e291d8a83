"""sweep.json: the jobs of a sweep, and what is needed to run them again. Written whole after every change."""

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeplabx import __version__, registry
from deeplabx.command import sweep_settings
from deeplabx.command.table import BY_WORDS
from deeplabx.config import schema
from deeplabx.engine.durable import replace
from deeplabx.engine.lock import HELD, NAME, lock, locked
from deeplabx.errors import ConfigError, printable
from deeplabx.report.sweep_jobs import (
    FINISHED,
    FORMAT,
    PLANNED,
    SUMMARY,
    SweepJob,
    checked_jobs,
    damaged,
    is_text,
    is_texts,
    read_summary,
)
from deeplabx.run import plugins

FLAGS = ("--config-dir", "--config-name", "--config-path")


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
    jobs: list[SweepJob] = field(default_factory=list)
    version: str = __version__

    @property
    def path(self) -> Path:
        return self.folder / SUMMARY

    def job_folder(self, job: SweepJob) -> Path:
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

    def add(self, overrides: list[str], folder: str) -> SweepJob:
        job: SweepJob = {
            "job": len(self.jobs),
            "overrides": overrides,
            "folder": folder,
            "status": PLANNED,
            "miou": None,
            "seconds": 0.0,
        }
        self.jobs.append(job)
        return job

    def words(self, job: SweepJob) -> str:
        """What a job has that not all have."""
        own = [one for one in job["overrides"] if one not in self.overrides]
        return " ".join(own or job["overrides"])

    def unfinished(self) -> list[SweepJob]:
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
    return from_content(folder, read_summary(folder))


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
    return Sweep(
        folder=folder,
        command=command.words,
        flags=flags,
        hydra=content["hydra"],
        overrides=content["overrides"],
        cwd=str(texts["cwd"]),
        plugins=plugins.checked(content.get("plugins"), source=path),
        settings=settings,
        jobs=checked_jobs(path, content),
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
