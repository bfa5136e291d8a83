"""Run a command: compose its config, hand it to its module, and turn what goes wrong into words and an exit
code.
"""

import gc
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig

from deeplabx.command.compose import complete as complete_settings
from deeplabx.command.compose import in_words as composition_error
from deeplabx.command.compose import run_hydra, schema_of
from deeplabx.command.job import Job
from deeplabx.command.quoting import quoted
from deeplabx.command.sweep import Jobs, in_words, report
from deeplabx.command.table import Command
from deeplabx.config.fields import path_keys
from deeplabx.errors import (
    CheckpointError,
    ConfigError,
    DeeplabxError,
    DivergedError,
    PreemptedError,
    ResourceError,
    StoppedError,
    resource_error,
)
from deeplabx.process import cluster
from deeplabx.registry import families


def run(command: Command, flags: dict[str, str], words: list[str]) -> int:
    """Run `deeplabx command flags words`; the exit code. Without a schema, `words` are names, not
    settings.
    """
    gc.disable()  # until a job begins: composing makes many small objects and drops none
    try:
        cluster.adopt_slurm(os.environ)
        if command.parallel and cluster.is_one_of_several(os.environ):
            run_in_parallel(command, flags, words)
        elif cluster.is_follower(os.environ):
            pass  # the main process answers
        elif command.schema:
            run_jobs(command, flags, words)
        else:
            print(function_of(command)(words))
    except DeeplabxError as error:
        if cluster.is_follower(os.environ) and isinstance(
            error, StoppedError | PreemptedError | DivergedError
        ):
            return error.exit_code  # the same in all processes: the main one reports it
        return report(error)
    except KeyboardInterrupt:
        return report(StoppedError("interrupted"))
    finally:
        gc.enable()
    return 0


def complete(command: Command, words: list[str]) -> int:
    try:
        complete_settings(command, " ".join(words))
    except DeeplabxError as error:
        return report(error)
    return 0


def function_of(command: Command) -> Callable[[Any], Any]:
    """What does the command's work. Its module is only imported now: it may import torch."""
    module, _, name = command.run.partition(":")
    return getattr(importlib.import_module(module), name)


def run_jobs(command: Command, flags: dict[str, str], settings: list[str]) -> None:
    """Compose and run one job, or many with -m. Raises the DeeplabxError of what went wrong."""
    if command.folder:
        refuse_unknown_run(command, flags, settings)
    sweep, paths = "--multirun" in flags, path_keys(schema_of(command), families())
    overrides = [quoted(setting, paths=paths, sweep=sweep) for setting in settings]

    def task(config: DictConfig) -> float | None:
        job = Job.of_hydra(command, config)
        return function_of(command)(job)

    jobs = Jobs(task)
    try:
        run_hydra(command, flags, overrides, jobs.run)
    except (DeeplabxError, BrokenPipeError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):  # its own are OSErrors too
            raise unwritable(error) from error
        raise composition_error(error, command) from error  # a job's own errors are kept by `jobs`
    jobs.finish()


def run_in_parallel(command: Command, flags: dict[str, str], settings: list[str]) -> None:
    """The same in one of the processes that torchrun or SLURM started: the main one composes, the others
    follow.
    """
    from deeplabx.process import launch
    from deeplabx.process.signals import end_with_parent

    end_with_parent()
    if cluster.is_follower(os.environ):
        gc.enable()
        try:
            launch.follow()
        except Exception as error:
            raise in_words(error, Path.cwd()) from error
        return
    try:
        if "--multirun" in flags:
            raise ConfigError(
                "a sweep cannot be run by torchrun or srun",
                hint="deeplabx train -m trainer.devices=N runs each job in N processes",
            )
        run_jobs(command, flags, settings)
    except DeeplabxError:
        launch.dismiss(failed=True)
        raise
    launch.dismiss(failed=False)


def unwritable(error: OSError) -> DeeplabxError:
    """What stopped Hydra before the job: it makes the folder of the run."""
    return resource_error(error) or ResourceError(
        f"{error.filename or 'the output folder'} cannot be made or read: {error.strerror or error}",
        hint="give a folder that can be written: hydra.run.dir=FOLDER (predict: out=FOLDER)",
    )


def refuse_unknown_run(command: Command, flags: dict[str, str], settings: list[str]) -> None:
    """Raise an error unless run= names the folder of a run, before Hydra makes that folder."""
    named = [setting.removeprefix("run=") for setting in settings if setting.startswith("run=")]
    if not named and flags:
        return  # such as --help
    if not named:
        raise ConfigError(
            f"{command.words} needs the folder of a run",
            hint=f"deeplabx {command.words} outputs/train/NAME/STAMP",
        )
    # os.path, because pathlib raises where a name is too long
    if not os.path.isfile(Path(named[0]) / "config.yaml"):  # noqa: PTH113
        raise CheckpointError(
            f"{named[0]} is not the folder of a run: it has no config.yaml",
            hint="give the folder that train printed",
        )
