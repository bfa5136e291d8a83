"""The jobs of -m, or the one of a plain call, and what is kept of them: a failing one stops no other."""

import json
import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from deeplabx.engine.durable import replace, write_words
from deeplabx.errors import (
    DeeplabxError,
    PreemptedError,
    ResourceError,
    StoppedError,
    SweepError,
    printable,
    report,
    resource_error,
)
from deeplabx.run import plugins

SUMMARY = "sweep.json"
FOLD = "dataset.fold="


@dataclass
class Jobs:
    """Runs `task` for each job and keeps the outcome. A task is given the composed config."""

    task: Callable[[DictConfig], float | None]
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[DeeplabxError] = field(default_factory=list)
    sweep_folder: Path | None = None
    unread: BrokenPipeError | None = None  # raised by `finish`: Hydra would print it
    stopped: DeeplabxError | None = None  # what ended a sweep before its last job
    unwritten: OSError | None = None  # of the summary

    def run(self, config: DictConfig) -> float | None:
        """Run one job. Its failure is kept for `finish` (raised here, it would end a sweep); a sweeper sees
        nan.
        """
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
            "status": "running",
            "miou": None,
        }
        self.outcomes.append(outcome)
        self.write_summary()
        try:
            outcome.update(miou=self.task(config), status="done")
        except BrokenPipeError as error:  # the reader of what is printed has left
            if sweeping:
                raise
            self.unread = error
            return math.nan
        except KeyboardInterrupt:
            outcome.update(status="stopped", exit_code=StoppedError.exit_code, error="interrupted")
            raise
        except (Exception, SystemExit) as error:  # kept, reported and counted
            if isinstance(error, SystemExit) and error.code == PreemptedError.exit_code:
                outcome.update(
                    status="stopped", exit_code=error.code, error="stopped before the first step"
                )  # by a signal: see cli.leave
                raise
            failure = in_words(error, folder)
            stops = isinstance(failure, StoppedError | PreemptedError)
            outcome.update(
                status="stopped" if sweeping and stops else "failed",
                exit_code=failure.exit_code,
                error=str(failure),
            )
            if sweeping and stops:
                self.stopped = failure
                raise KeyboardInterrupt from None  # nothing else passes Hydra's launcher
            if sweeping:
                report(failure)
                mark_failed(folder, failure)
            self.failures.append(failure)
            return math.nan
        finally:
            self.write_summary()
            if not sweeping and folder != Path.cwd() and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # a run that did not begin leaves nothing
        return outcome["miou"]

    def write_summary(self) -> None:
        """Write sweep.json, after each job: a sweep that is killed leaves it too."""
        if self.sweep_folder is None:
            return
        try:
            replace(self.sweep_folder / SUMMARY, json.dumps({"jobs": self.outcomes}, indent=2) + "\n")
            self.unwritten = None
        except OSError as error:
            self.unwritten = error

    def finish(self) -> None:
        """Raise the job's failure; for a sweep, print the summary first, and raise SweepError."""
        if self.unread is not None:
            raise self.unread
        if self.sweep_folder is None:
            for failure in self.failures:
                raise failure
            return
        if self.unwritten is None:
            print(f"\n{len(self.outcomes)} jobs, summary in {self.sweep_folder / SUMMARY}")
        else:
            print(f"\n{len(self.outcomes)} jobs")
        for outcome in self.outcomes:
            words = outcome["status"] if outcome["miou"] is None else f"mIoU {outcome['miou']:.4f}"
            print(f"  {outcome['job']:>3}  {words}  {' '.join(outcome['overrides'])}", flush=True)
        for line in means_of_folds(self.outcomes):
            print(line, flush=True)
        if self.unwritten is not None:
            raise resource_error(self.unwritten) or ResourceError(f"{SUMMARY}: {self.unwritten}")
        if self.failures:
            first = next(outcome for outcome in self.outcomes if outcome["status"] == "failed")
            overrides, error = " ".join(first["overrides"]), first["error"].splitlines()[0]
            raise SweepError(
                f"{len(self.failures)} of {len(self.outcomes)} jobs failed; the others are done",
                hint=f"job {first['job']} ({overrides}): {error}",
            )


def means_of_folds(outcomes: list[dict[str, Any]]) -> list[str]:
    """For jobs that differ only in dataset.fold: the mean and the standard deviation of their mIoU."""
    scores: dict[tuple[str, ...], list[float]] = {}
    for outcome in outcomes:
        others = tuple(one for one in outcome["overrides"] if not one.startswith(FOLD))
        folded, miou = len(others) < len(outcome["overrides"]), outcome["miou"]
        if folded and miou is not None and math.isfinite(miou):
            scores.setdefault(others, []).append(miou)
    common = set.intersection(*map(set, scores)) if scores else set()
    return [
        f"mean of {len(found)} folds: mIoU {mean(found):.4f}, standard deviation {stdev(found):.4f}"
        + "".join(f"  {one}" for one in others if one not in common)
        for others, found in scores.items()
        if len(found) > 1
    ]


def mark_failed(folder: Path, failure: DeeplabxError) -> None:
    """Leave FAILED in a job's folder. Where it cannot be written the sweep goes on: sweep.json has it."""
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
