"""One job of a command, or the many of -m: composed by Hydra, run by the command's module."""

import gc
import sys
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf import DictConfig

from deeplabx.command import inputs
from deeplabx.command.compose import in_words as composition_error
from deeplabx.command.compose import run_hydra
from deeplabx.command.dispatch import function_of
from deeplabx.command.job import Job
from deeplabx.command.sweep import Jobs
from deeplabx.command.table import Command
from deeplabx.errors import DeeplabxError, ResourceError, resource_error
from deeplabx.process.memory import keep_freed_memory
from deeplabx.process.threads import CoreTimes, core_times, sleep_beside_others


def run(command: Command, flags: dict[str, str], overrides: list[str]) -> None:
    """Compose and run one job, or many with -m. Raises the DeeplabxError of what went wrong."""
    began = core_times()

    def task(config: DictConfig) -> float | None:
        job = Job.of_hydra(command, config)
        inputs.refuse_absent(command, job.config)
        if command.parallel:
            keep_freed_memory()
        return imported(command, began)(job)

    jobs = Jobs(task)
    try:
        run_hydra(command, flags, overrides, jobs.run)
    except (DeeplabxError, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        if jobs.stopped is not None:
            raise jobs.stopped from None
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):  # its own are OSErrors too
            raise unwritable(error) from error
        raise composition_error(error, command) from error  # a job's own errors are kept by `jobs`
    finally:
        jobs.write_summary()
    jobs.finish()


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
