"""The jobs of -m, or the one of a plain call, and what is kept of them: a failing one stops no other."""

import gc
import json
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from deeplabx.engine.durable import write_words
from deeplabx.errors import (
    DeeplabxError,
    PreemptedError,
    StoppedError,
    SweepError,
    report,
    resource_error,
)
from deeplabx.run import plugins


@dataclass
class Jobs:
    """Runs `task` for each job and keeps the outcome. A task is given the composed config."""

    task: Callable[[DictConfig], float | None]
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[DeeplabxError] = field(default_factory=list)
    sweep_folder: Path | None = None
    unread: BrokenPipeError | None = None  # raised by `finish`: Hydra would print it

    def run(self, config: DictConfig) -> float | None:
        """Run one job. Its failure is kept for `finish` (raised here, it would end a sweep); a sweeper sees
        nan.
        """
        gc.enable()
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
        sweeping = hydra.mode == RunMode.MULTIRUN
        if sweeping:
            self.sweep_folder = Path(hydra.sweep.dir)
            print(f"job {hydra.job.num}: {' '.join(overrides)}", flush=True)
        number = hydra.job.num if sweeping else 0
        outcome: dict[str, Any] = {
            "job": number,
            "overrides": overrides,
            "folder": folder.name,
            "status": "done",
        }
        self.outcomes.append(outcome)
        try:
            outcome["miou"] = self.task(config)
        except BrokenPipeError as error:  # the reader of what is printed has left
            if sweeping:
                raise
            self.unread = error
            return math.nan
        except Exception as error:  # noqa: BLE001 - kept, reported and counted
            failure = in_words(error, folder)
            if sweeping and isinstance(failure, StoppedError | PreemptedError):
                # stops the whole sweep: nothing else passes Hydra's launcher
                raise KeyboardInterrupt from None
            if sweeping:
                report(failure)
                write_words(folder / "FAILED", f"{failure}\n")
            self.failures.append(failure)
            outcome.update(status="failed", miou=None, exit_code=failure.exit_code, error=str(failure))
            return math.nan
        finally:
            if not sweeping and folder != Path.cwd() and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # a run that did not begin leaves nothing
        return outcome["miou"]

    def finish(self) -> None:
        """Raise the job's failure; for a sweep, write and print the summary first, and raise SweepError."""
        if self.unread is not None:
            raise self.unread
        if self.sweep_folder is None:
            for failure in self.failures:
                raise failure
            return
        path = self.sweep_folder / "sweep.json"
        write_words(path, json.dumps({"jobs": self.outcomes}, indent=2) + "\n")
        print(f"\n{len(self.outcomes)} jobs, summary in {path}")
        for outcome in self.outcomes:
            words = outcome["status"] if outcome["miou"] is None else f"mIoU {outcome['miou']:.4f}"
            print(f"  {outcome['job']:>3}  {words}  {' '.join(outcome['overrides'])}", flush=True)
        if self.failures:
            first = next(outcome for outcome in self.outcomes if outcome["status"] == "failed")
            overrides, error = " ".join(first["overrides"]), first["error"].splitlines()[0]
            raise SweepError(
                f"{len(self.failures)} of {len(self.outcomes)} jobs failed; the others are done",
                hint=f"job {first['job']} ({overrides}): {error}",
            )


def in_words(error: Exception, folder: Path) -> DeeplabxError:
    """Any error as one of ours. One that is neither ours, nor of a plug-in, nor a lack of memory or disk is
    an internal error, and its traceback goes to error.log.
    """
    ours = error if isinstance(error, DeeplabxError) else resource_error(error) or plugins.blamed(error)
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
