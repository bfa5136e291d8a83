"""The jobs of -m: planned, written down, run one after another or several at a time, and continued."""

import contextlib
import gc
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from deeplabx import __version__
from deeplabx.command import jobs, sweep_settings
from deeplabx.command.compose import Multirun
from deeplabx.command.compose import in_words as composition_error
from deeplabx.command.job import Job, Watch
from deeplabx.command.quoting import in_quotes
from deeplabx.command.sweep_record import (
    DONE,
    FAILED,
    FLAGS,
    PRUNED,
    QUEUED,
    RUNNING,
    STOPPED,
    SUMMARY,
    Sweep,
    alone,
    needed_plugins,
    read,
)
from deeplabx.command.sweep_record import Job as JobRecord
from deeplabx.command.table import BY_WORDS, Command
from deeplabx.config import checks, schema
from deeplabx.errors import (
    ConfigError,
    DeeplabxError,
    PreemptedError,
    ResourceError,
    StoppedError,
    SweepError,
    printable,
    report,
    resource_error,
)
from deeplabx.report.leaderboard import typed
from deeplabx.run import plugins

LOG = "job.log"  # in the folder of a job that runs in a process of its own
PRUNED_MARK = "PRUNED"  # in the folder of a job that the search stopped, with the reason


# --- start and resume ---------------------------------------------------------------------------------------


def start(command: Command, flags: dict[str, str], overrides: list[str], own: Sequence[str]) -> None:
    """Plan the jobs of `deeplabx command -m overrides`, write them down, and run them.

    own: the settings sweep.* of the command line. Raises ConfigError where the folder holds a sweep, the
    error of a composition before anything is written, and SweepError where jobs failed.
    """
    settings = sweep_settings.sweep_config(own)
    kept = {
        name: value if name == "--config-name" else str(Path(value).absolute())
        for name, value in flags.items()
        if name in FLAGS
    }
    with composing(command):
        multirun = Multirun(command, kept, overrides)
        source = source_of(multirun, settings)
        first = [multirun.job_config(number, words) for number, words in enumerate(source.planned)]
        names = [multirun.job_folder(number, words) for number, words in enumerate(source.planned)]
        runner_type = runner_of(settings, first or [multirun.config])
        folder = multirun.claim_folder()
    refuse_old(folder)
    with alone(folder):
        refuse_old(folder)  # another process may have been faster
        sweep = Sweep(
            folder=folder,
            command=command.words,
            flags=kept,
            hydra=multirun.hydra_overrides,
            overrides=multirun.task_overrides,
            cwd=str(Path.cwd()),
            plugins=needed_plugins(),
            settings=settings,
        )
        for words, name in zip(source.planned, names, strict=True):
            sweep.add(words, name)
        drive(sweep, source, runner_type)


def resume(folder: Path, own: Sequence[str]) -> None:
    """Run what the sweep in `folder` has not finished. own: the settings sweep.* of the command line."""
    with alone_in_old(folder):
        sweep = read(folder)
        settings = sweep_settings.sweep_config(own, sweep.settings)
        sweep_settings.refuse_changed(sweep.settings, settings)
        sweep.settings = settings
        plugins.refuse_absent(sweep.plugins, source=folder)
        for words in plugins.changes(sweep.plugins, source=folder):
            raise ConfigError(words, hint="restore it, or start a sweep of its own with the new one")
        if sweep.version != __version__:
            print(f"the sweep was started with deeplabx {sweep.version}; this is {__version__}")
        if not os.path.isdir(sweep.cwd):  # noqa: PTH112 - as above: a name of any length
            raise ConfigError(
                f"{folder} was started in {sweep.cwd}, which does not exist: its relative paths lead nowhere",
                hint="make that folder, or a link of that name",
            )
        sweep.folder = folder.absolute() if Path(sweep.cwd) != Path.cwd() else folder
        with contextlib.chdir(sweep.cwd):
            command = BY_WORDS[sweep.command]
            with composing(command):
                multirun = Multirun(command, sweep.flags, [*sweep.hydra, *sweep.overrides])
                source = source_of(multirun, settings)
                several = (settings.jobs or 1) > 1
                waiting = [
                    multirun.job_config(job["job"], job["overrides"]) for job in sweep.unfinished() if several
                ]
                runner_type = runner_of(settings, waiting or [multirun.config])
            drive(sweep, source, runner_type)


@contextlib.contextmanager
def alone_in_old(folder: Path) -> Iterator[None]:
    """Lock the folder of a sweep that exists: nothing is made in another."""
    read(folder)
    with alone(folder):
        yield


def refuse_old(folder: Path) -> None:
    """Raise ConfigError for a folder that holds a sweep: its jobs are not overwritten."""
    if (folder / SUMMARY).is_file():
        raise ConfigError(
            f"{folder} holds a sweep already",
            hint=f"deeplabx sweep resume {typed(folder)} runs what it has not finished; a new one needs "
            "another folder: hydra.sweep.dir=FOLDER",
        )


@contextlib.contextmanager
def composing(command: Command) -> Iterator[None]:
    """Errors of Hydra and of its composition as ours."""
    try:
        yield
    except DeeplabxError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):
            raise jobs.unwritable(error) from error
        raise composition_error(error, command) from error


def devices_of(configs: Sequence[DictConfig]) -> str:
    """trainer.devices of the jobs: the one that asks for most; "auto" of a command that has none."""
    found = [str(OmegaConf.select(one, "trainer.devices", default="auto")) for one in configs]
    return max(found, key=lambda one: (checks.device_count(one), one != "cpu"))


# --- which jobs there are, and who runs them ----------------------------------------------------------------


class Source(Protocol):
    """Which jobs a sweep has."""

    planned: list[list[str]]  # overrides of the jobs that are known before any has run

    def begin(self, sweep: Sweep) -> None:
        """Called once, with the jobs as sweep.json has them."""

    def next(self, sweep: Sweep) -> JobRecord | None:
        """A job that was not planned; None where there is none now."""

    def ended(self, sweep: Sweep, job: JobRecord) -> None:
        """Called after each job."""

    def watch(self, sweep: Sweep, job: JobRecord) -> Watch | None:
        """What follows the evaluations of a job."""


class Grid:
    """Every combination."""

    def __init__(self, planned: list[list[str]]) -> None:
        self.planned = planned

    def begin(self, sweep: Sweep) -> None:
        pass

    def next(self, sweep: Sweep) -> JobRecord | None:
        return None

    def ended(self, sweep: Sweep, job: JobRecord) -> None:
        pass

    def watch(self, sweep: Sweep, job: JobRecord) -> Watch | None:
        return None


def source_of(multirun: Multirun, settings: schema.SweepConfig) -> Source:
    if settings.trials is not None:
        from deeplabx.command.sweep_search import Search  # which needs an extra

        return Search(multirun, settings)
    for one in multirun.parsed():
        if one.is_interval_sweep():
            raise ConfigError(
                f"{one.input_line} is a range to search: a grid cannot hold all of it",
                hint="set sweep.trials=N for a search, or list values",
            )
    return Grid(multirun.grid())


class Ended(NamedTuple):
    """How a job ended. fields: of its record. raised: what stops the sweep too."""

    fields: dict[str, Any]
    raised: BaseException | None = None


class Runner(Protocol):
    """Where jobs run. A context manager."""

    @property
    def slots(self) -> int:
        """Jobs at a time."""

    quiet: bool  # whether the jobs print into files of their own

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def start(self, sweep: Sweep, job: JobRecord, watch: Watch | None) -> None: ...

    def wait(self, note: Callable[[], None]) -> list[tuple[JobRecord, Ended]]:
        """Wait until jobs have ended. note: called where the record of one that has not ended changed."""

    def refuse_stopped(self) -> None:
        """Raise the error of a signal that has stopped the jobs."""

    def stop(self) -> None:
        """End all that run, without a save: after a second interrupt, or an error of ours."""


def runner_of(settings: schema.SweepConfig, configs: Sequence[DictConfig]) -> Callable[[], Runner]:
    """What makes the runner. configs: of the jobs. Raises DeviceError for more than there are devices for."""
    if settings.launcher == "slurm":
        from deeplabx.command.sweep_slurm import Slurm

        return Slurm.prepared(settings)
    if (settings.jobs or 1) > 1:
        from deeplabx.command.sweep_processes import Processes

        return Processes.prepared(settings.jobs or 1, devices=devices_of(configs))
    return InThisProcess


@dataclass
class InThisProcess:
    """One job at a time, in the process of the command. A signal is answered by the job."""

    slots: int = 1
    quiet: bool = False
    over: list[tuple[JobRecord, Ended]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, sweep: Sweep, job: JobRecord, watch: Watch | None) -> None:
        self.over.append((job, run_job(sweep, job, watch)))

    def wait(self, note: Callable[[], None]) -> list[tuple[JobRecord, Ended]]:
        over, self.over = self.over, []
        return over

    def refuse_stopped(self) -> None:
        pass

    def stop(self) -> None:
        pass


# --- one job ------------------------------------------------------------------------------------------------


def run_job(sweep: Sweep, job: JobRecord, watch: Watch | None) -> Ended:
    """Run a job of a sweep in this process; one that has begun continues from its newest checkpoint. A
    failure is printed and left in its folder.
    """
    command, folder = BY_WORDS[sweep.command], sweep.job_folder(job)
    (folder / PRUNED_MARK).unlink(missing_ok=True)
    begun = command.words == "train" and (folder / "config.yaml").is_file()
    overrides = [
        *sweep.hydra,
        *job["overrides"],
        f"hydra.run.dir={in_quotes(str(folder))}",
        f"hydra.sweep.dir={in_quotes(str(sweep.folder))}",
        f"hydra.job.num={job['job']}",
        f"hydra.job.id='{job['job']}'",
    ]
    try:
        outcome = jobs.run_one(
            command,
            sweep.flags,
            overrides,
            function=continued if begun else None,
            watch=watch,
            folder=folder,
        )
    except DeeplabxError as error:  # of its composition
        outcome = jobs.Outcome(failure=error)
    fields = fields_of(outcome, folder)
    if fields["status"] == FAILED and outcome.failure is not None:
        report(outcome.failure)
        jobs.mark_failed(folder, outcome.failure)
    return Ended(fields, outcome.raised if fields["status"] == STOPPED else None)


def continued(job: Job) -> float:
    """Continue the run in a job's folder, with the run's own config."""
    from deeplabx.command.resume import resume as resume_run  # here, because it imports torch

    return resume_run(job.folder, change=lambda config: config, watch=job.watch)


# --- the loop -----------------------------------------------------------------------------------------------


@dataclass
class Driver:
    """Runs the jobs of a sweep and writes down what becomes of each."""

    sweep: Sweep
    source: Source
    runner: Runner
    unwritten: OSError | None = None

    def run(self) -> None:
        """Run all that is not finished. Raises what stopped the sweep before its last job."""
        sweep, running = self.sweep, 0
        sweep.write()
        self.source.begin(sweep)
        waiting = sweep.unfinished()
        while True:
            while running < self.runner.slots:
                job = waiting.pop(0) if waiting else self.source.next(sweep)
                if job is None:
                    break
                self.begin(job)
                running += 1
            if not running:
                break
            for job, ended in self.runner.wait(self.write):
                running -= 1
                self.end(job, ended)
        self.runner.refuse_stopped()

    def begin(self, job: JobRecord) -> None:
        job["status"] = RUNNING
        for name in ("exit_code", "error"):
            job.pop(name, None)
        self.write()
        print(f"job {job['job']}: {self.sweep.words(job)}", flush=True)
        self.runner.start(self.sweep, job, self.source.watch(self.sweep, job))
        self.write()

    def end(self, job: JobRecord, ended: Ended) -> None:
        seconds = round(job["seconds"] + ended.fields["seconds"], 1)
        job.update(ended.fields, seconds=seconds)
        self.write()
        if self.runner.quiet:
            print(ended_words(self.sweep, job), flush=True)
        self.source.ended(self.sweep, job)
        if ended.raised is not None:
            raise ended.raised

    def write(self) -> None:
        """Write sweep.json. A full disk does not end the jobs that run: `finish` raises it."""
        try:
            self.sweep.write()
            self.unwritten = None
        except OSError as error:
            self.unwritten = error


def fields_of(outcome: jobs.Outcome, folder: Path) -> dict[str, Any]:
    """An outcome as a job's record has it."""
    found: dict[str, Any] = {"seconds": outcome.seconds}
    failure = outcome.failure
    if isinstance(failure, PreemptedError) and (folder / PRUNED_MARK).is_file():
        (folder / "INTERRUPTED").unlink(missing_ok=True)
        return {**found, "status": PRUNED, "miou": best_so_far(folder)}
    if failure is not None and outcome.raised is None:
        return {**found, "status": FAILED, "exit_code": failure.exit_code, "error": str(failure)}
    if outcome.raised is not None:
        code, words = stop_words(outcome.raised)
        return {**found, "status": STOPPED, "exit_code": code, "error": words}
    value = outcome.value  # of a command that returns no number: None
    return {**found, "status": DONE, "miou": value if value is None or math.isfinite(value) else None}


def ended_words(sweep: Sweep, job: JobRecord) -> str:
    """The line of a terminal for a job that printed into its own log."""
    seconds, log = f"{job['seconds']:.0f} s", sweep.job_folder(job) / LOG
    if job["status"] in (DONE, PRUNED):
        miou = "" if job["miou"] is None else f" mIoU {job['miou']:.4f}"
        return f"job {job['job']} {job['status']}:{miou} after {seconds}"
    first = (str(job.get("error", "")).splitlines() or [""])[0]
    return (
        f"job {job['job']} {job['status']} after {seconds}: {printable(first, 200)}; its output is in {log}"
    )


def stop_words(raised: BaseException) -> tuple[int, str]:
    if isinstance(raised, DeeplabxError):
        return raised.exit_code, raised.message
    if isinstance(raised, SystemExit):
        return PreemptedError.exit_code, "stopped before the first step"
    return StoppedError.exit_code, "interrupted"


def best_so_far(folder: Path) -> float | None:
    """The best mIoU in a run's metrics.jsonl."""
    from deeplabx.report.metrics_file import evaluations

    return max(evaluations(folder).values(), default=None)


def drive(sweep: Sweep, source: Source, make_runner: Callable[[], Runner]) -> None:
    """Run a sweep to its end, and print its leaderboard. Raises SweepError where jobs failed, and what
    stopped it otherwise.
    """
    gc.enable()
    driver = Driver(sweep, source, make_runner())
    hint = f"deeplabx sweep resume {typed(sweep.folder)}{plugins.as_overrides()}"
    try:
        with driver.runner:
            driver.run()
    except BaseException as stopped:
        driver.runner.stop()
        for job in sweep.jobs:
            if job["status"] in (RUNNING, QUEUED):
                error = "stopped immediately, not saved"
                job.update(status=STOPPED, exit_code=StoppedError.exit_code, error=error)
        driver.write()
        if isinstance(stopped, StoppedError | PreemptedError):
            stopped.hint = hint
        elif isinstance(stopped, KeyboardInterrupt):
            raise StoppedError("interrupted", hint=hint) from None
        raise
    finish(sweep, driver.unwritten)


def finish(sweep: Sweep, unwritten: OSError | None) -> None:
    """Print the leaderboard of a sweep whose jobs have ended, write its files, and raise SweepError where
    jobs failed.
    """
    from deeplabx.command.sweep_show import show

    print()
    show(sweep, at_work=False)
    sys.stdout.flush()
    if unwritten is not None:
        raise resource_error(unwritten) or ResourceError(f"{SUMMARY}: {unwritten}")
    bad = [job for job in sweep.jobs if job["status"] in (FAILED, STOPPED)]
    if bad:
        overrides, error = sweep.words(bad[0]), (bad[0]["error"].splitlines() or [""])[0]
        raise SweepError(
            f"{len(bad)} of {len(sweep.jobs)} jobs failed; the others are done",
            hint=f"job {bad[0]['job']} ({overrides}): {error}\n"
            f"deeplabx sweep resume {typed(sweep.folder)} runs what failed again",
        )
