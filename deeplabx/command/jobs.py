"""One job of a command: composed by Hydra, run by the command's module. With -m, the jobs of a sweep."""

import gc
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from deeplabx.command import inputs
from deeplabx.command.compose import in_words as composition_error
from deeplabx.command.compose import run_hydra
from deeplabx.command.dispatch import function_of
from deeplabx.command.job import Job, Watch
from deeplabx.command.table import Command
from deeplabx.engine.durable import write_words
from deeplabx.errors import (
    DeeplabxError,
    PreemptedError,
    ResourceError,
    StoppedError,
    printable,
    resource_error,
)
from deeplabx.process.memory import keep_freed_memory
from deeplabx.process.threads import CoreTimes, core_times, sleep_beside_others
from deeplabx.run import plugins


def run(command: Command, flags: dict[str, str], overrides: list[str], sweep: Sequence[str] = ()) -> None:
    """Compose and run one job, or with -m the jobs of a sweep. Raises the DeeplabxError of what went wrong.

    sweep: the settings sweep.* of the command line.
    """
    if "--multirun" in flags and not {"--cfg", "--info"} & set(flags):
        from deeplabx.command import sweep as sweeps  # which runs jobs itself

        try:
            sweeps.start(command, flags, overrides, sweep)
        except BrokenPipeError:  # the reader of what is printed has left
            raise
        except OSError as error:  # of the sweep's own files: those of its jobs are kept by `run_one`
            raise unwritable(error) from error
        return
    outcome = run_one(command, flags, overrides)
    if outcome.raised is not None:
        raise outcome.raised
    if outcome.failure is not None:
        raise outcome.failure


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with the number that its command returns, a failure, or by a stop.

    raised: what stops whoever runs the job too, such as an interrupt.
    """

    value: float | None = None
    failure: DeeplabxError | None = None
    raised: BaseException | None = None
    seconds: float = 0.0


def run_one(
    command: Command,
    flags: dict[str, str],
    overrides: list[str],
    *,
    function: Callable[[Job], float | None] | None = None,
    watch: Watch | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Compose and run one job. function: what does its work; None: what the command names. watch: of its
    evaluations. folder: of a job of a sweep, which stays even if it is empty.
    """
    began, ended = core_times(), Outcome()
    start = time.monotonic()

    def task(config: DictConfig) -> float | None:
        nonlocal ended
        own = Path(HydraConfig.get().runtime.output_dir)
        try:
            job = replace(Job.of_hydra(command, config), watch=watch)
            inputs.refuse_absent(command, job.config)
            if command.parallel:
                keep_freed_memory()
            work = imported(command, began)
            ended = Outcome((function or work)(job))
        except BrokenPipeError as error:  # the reader of what is printed has left; Hydra would print it
            ended = Outcome(raised=error)
        except KeyboardInterrupt as error:
            ended = Outcome(raised=error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the caller raises or counts it
            if isinstance(error, SystemExit) and error.code == PreemptedError.exit_code:
                ended = Outcome(raised=error)  # by a signal: see cli.leave
            else:
                failure = in_words(error, own)
                stops = isinstance(failure, StoppedError | PreemptedError)
                ended = Outcome(failure=failure, raised=failure if stops else None)
        finally:
            if folder is None and own != Path.cwd() and own.is_dir() and not any(own.iterdir()):
                own.rmdir()  # a run that did not begin leaves nothing
        return ended.value if ended.failure is None else math.nan

    try:
        run_hydra(command, flags, overrides, task)
    except (DeeplabxError, BrokenPipeError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):  # its own are OSErrors too
            raise unwritable(error) from error
        raise composition_error(error, command) from error  # a job's own errors are kept by `task`
    return replace(ended, seconds=time.monotonic() - start)


def imported(command: Command, began: CoreTimes | None) -> Callable[[Job], float | None]:
    """What does the command's work. The garbage collector, which was off until now, is on afterwards. began:
    when the command did.
    """
    first = "torch" not in sys.modules
    if first:
        sleep_beside_others(since=began)
    function = function_of(command)
    if first:
        gc.freeze()  # modules live as long as the process: no collection needs to look at them
    gc.enable()
    return function


def unwritable(error: OSError) -> DeeplabxError:
    """What stopped Hydra before the job: it makes the folder of the run."""
    return resource_error(error) or ResourceError(
        f"{error.filename or 'the output folder'} cannot be created or read: {error.strerror or error}",
        hint="choose a writable folder: hydra.run.dir=FOLDER (predict: out=FOLDER)",
    )


def mark_failed(folder: Path, failure: DeeplabxError) -> None:
    """Leave FAILED in a job's folder. Where it cannot be written the sweep continues: sweep.json has it."""
    try:
        write_words(folder / "FAILED", f"{failure}\n")
    except OSError as error:
        print(f"{printable(str(folder))}/FAILED cannot be written: {error.strerror}", file=sys.stderr)


def in_words(error: BaseException, folder: Path) -> DeeplabxError:
    """Any error as one of ours. One that is neither ours, nor of a plug-in, nor a lack of memory or disk is
    an internal error, and its traceback goes to error.log.
    """
    ours: DeeplabxError | None = error if isinstance(error, DeeplabxError) else None
    if ours is None and isinstance(error, Exception):
        ours = resource_error(error)
    ours = ours or plugins.blamed(error)
    if ours is not None:
        return ours
    log = folder / "error.log"
    where = f"the traceback is in {log}"
    try:
        write_words(log, "".join(traceback.format_exception(error)))
    except OSError as unwritten:
        where = f"its traceback could not be written to {log}: {unwritten.strerror}"
    first_line = (str(error).splitlines() or [""])[0][:200]
    return DeeplabxError(f"internal error: {type(error).__name__}: {first_line}", hint=where)
