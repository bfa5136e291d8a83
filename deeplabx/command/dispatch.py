"""Run a command: compose its config, hand it to its module, and turn what goes wrong into words and an exit
code. What needs Hydra is imported only when the overrides have been read.
"""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deeplabx.command import overrides, sweep_settings
from deeplabx.command.quoting import unquoted
from deeplabx.command.table import Command
from deeplabx.config.paths import expanded
from deeplabx.errors import (
    CheckpointError,
    ConfigError,
    DeeplabxError,
    DivergedError,
    PreemptedError,
    StoppedError,
    report,
)
from deeplabx.process import cluster
from deeplabx.run import plugins

SWEEP_FILE = "sweep.json"
EXPORTED_SUFFIXES = (".onnx", ".pt2", ".xml")
# With these flags a config is only printed, or the primary config is the user's own.
NOT_RUN_AS_SHIPPED = {"--cfg", "--info", "--config-name", "--config-path"}


def run(command: Command, flags: dict[str, str], words: list[str]) -> int:
    """Run `deeplabx command flags words`; the exit code. Without a schema, `words` are names, not
    settings.

    It does not return where a process group is left over from an error: see `launch.leave`.
    """
    code = exit_code(command, flags, words)
    launch = sys.modules.get("deeplabx.process.launch")
    if launch is not None and launch.dist.is_initialized():
        launch.leave(code)
    return code


def exit_code(command: Command, flags: dict[str, str], words: list[str]) -> int:
    gc.disable()  # until a job begins: composing makes many small objects and drops none
    place = cluster.Place()
    try:
        # a command that only prints, or that one process runs, never looks at a launcher's variables
        if command.parallel and not {"--cfg", "--info"} & set(flags):
            place = cluster.adopt(os.environ)
        if command.schema:
            run_with_settings(command, flags, words, place)
        else:
            if command.lists:
                plugins.load_installed()
            print(function_of(command)(overrides.load_plugins(words)))
    except DeeplabxError as error:
        if place.rank > 0 and isinstance(error, StoppedError | PreemptedError | DivergedError | ConfigError):
            return error.exit_code  # the same in all processes: the main one reports it
        return report(error)
    except KeyboardInterrupt:
        return report(StoppedError("interrupted"))
    finally:
        gc.enable()
    return 0


def run_with_settings(
    command: Command, flags: dict[str, str], settings: list[str], place: cluster.Place
) -> None:
    if command.first == ("run",):
        refuse_unknown_run(command, flags, settings)
    if not NOT_RUN_AS_SHIPPED & set(flags):
        refuse_not_given(command, settings)
    sweep = "--multirun" in flags
    if command.words != "sweep resume":  # whose sweep.* are overrides of what is stored
        of_sweep, settings = sweep_settings.taken(settings)
        sweep_settings.refuse_misplaced(command, of_sweep, sweep=sweep)
    else:
        of_sweep = []
    own_folder = bool({"--config-dir", "--config-path"} & set(flags))
    prepared = overrides.prepared(command, settings, sweep=sweep, own_folder=own_folder)
    if place.world_size > 1:
        run_in_parallel(command, flags, prepared, place)
    else:
        run_jobs(command, flags, prepared, of_sweep)


def refuse_not_given(command: Command, settings: list[str]) -> None:
    """Raise ConfigError if a setting that a command needs is not on the command line. A composed config does
    not show it: schedule.max_iters has a default there, which `extend` must not use.
    """
    given = {one.partition("=")[0].lstrip("+") for one in settings}
    for key, meaning in command.needs.items():
        if key not in given:
            if key in (*command.first, command.rest) and key != "ckpt":  # which is given without its name
                raise ConfigError(f"{command.words} needs {meaning}")
            raise ConfigError(f"{key}= must be given: {meaning}")


def run_jobs(
    command: Command, flags: dict[str, str], prepared: list[str], of_sweep: Sequence[str] = ()
) -> None:
    from deeplabx.command import jobs

    jobs.run(command, flags, prepared, of_sweep)


def complete(command: Command, line: str) -> int:
    """Print what can follow a line of settings."""
    from deeplabx.command import compose

    os.environ["COMP_LINE"] = line
    try:
        compose.complete(command)
    except DeeplabxError as error:
        return report(error)
    return 0


def function_of(command: Command) -> Callable[[Any], Any]:
    """What does the command's work. Its module is only imported now: it may import torch."""
    module, _, name = command.run.partition(":")
    return getattr(importlib.import_module(module), name)


def run_in_parallel(
    command: Command, flags: dict[str, str], prepared: list[str], place: cluster.Place
) -> None:
    """The same in one of the processes that torchrun or SLURM started: the main one composes, the others
    follow.
    """
    from deeplabx.command.jobs import in_words
    from deeplabx.process import launch
    from deeplabx.process.memory import keep_freed_memory
    from deeplabx.process.signals import end_with_parent

    end_with_parent()
    keep_freed_memory()
    if place.rank > 0:
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
        run_jobs(command, flags, prepared)
    except DeeplabxError:
        launch.dismiss(failed=True)
        raise
    launch.dismiss(failed=False)


def refuse_unknown_run(command: Command, flags: dict[str, str], settings: list[str]) -> None:
    """Raise an error unless run= names the folder of a run, before Hydra makes that folder."""
    given = [unquoted(one.removeprefix("run=")) for one in settings if one.startswith("run=")]
    named = [expanded("run", one) for one in given]
    if not named and flags:
        return  # such as --cfg
    if not named:
        raise ConfigError(
            f"{command.words} needs the folder of a run",
            hint=f"deeplabx {command.words} outputs/train/NAME/STAMP",
        )

    def is_one(folder: Path) -> bool:
        # os.path, because pathlib raises where a name is too long
        return any(os.path.isfile(folder / name) for name in command.holds)  # noqa: PTH113

    if not is_one(Path(named[0])):
        around = [one for one in list(Path(named[0]).parents)[:2] if is_one(one)]
        hint = f"type {around[0]}" if around else instead_of_run(Path(named[0]), command)
        if len(command.holds) == 1:
            raise CheckpointError(f"{named[0]} is not the folder of a run: it has no config.yaml", hint=hint)
        raise CheckpointError(
            f"{named[0]} is not the folder of a run or of an evaluation: it has none of "
            f"{', '.join(command.holds)}",
            hint=hint,
        )


def instead_of_run(given: Path, command: Command) -> str:
    """What to type where `given` is not the folder of a run: a sweep and an exported file are neither."""
    sweep = given.parent if given.name == SWEEP_FILE else given
    if os.path.isfile(sweep / SWEEP_FILE):  # noqa: PTH113 - pathlib raises where a name is too long
        if command.words == "resume":
            return f"it is a sweep: deeplabx sweep resume {sweep}"
        return f"it is a sweep: deeplabx sweep show {sweep} names its best run"
    if command.words == "report" and given.suffix in EXPORTED_SUFFIXES:
        return f"deeplabx eval {given} dataset.root=PATH evaluates an exported file, and writes its report"
    return "give the folder that train printed, outputs/train/NAME/STAMP"
