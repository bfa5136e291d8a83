"""A search with Optuna: which settings vary, what the next job has, and which job is stopped early.

The study is in study.db beside sweep.json. A sampler is seeded for each trial from sweep.seed and the
trial's number, so a study that was killed continues with the trials of one that was not.
"""

import logging
import math
import re
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep

from deeplabx import registry
from deeplabx.command import sweep_record
from deeplabx.command.compose import Multirun
from deeplabx.command.job import Watch
from deeplabx.command.sweep import composing
from deeplabx.command.sweep_record import Sweep
from deeplabx.config import schema
from deeplabx.config.fields import setting_type
from deeplabx.engine.durable import replace
from deeplabx.errors import CheckpointError, ConfigError, DeeplabxError, ResourceError, needed
from deeplabx.report.metrics_file import evaluations
from deeplabx.report.sweep_jobs import DONE, PRUNED, SweepJob

DATABASE = "study.db"
NOT_WRITTEN = re.compile(
    r"disk is full|disk I/O error|readonly database|database is locked"
)  # SQLite's words
STUDY = "sweep"
STARTUP = 5  # finished jobs before the first is pruned
RANDOM = 10  # jobs before TPE learns from them
MOST_SEED = 2**32


def optuna_module() -> Any:
    """Optuna. Raises ConfigError, with the command that installs it, where it is absent."""
    optuna = needed("optuna", extra="search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """Which jobs a search has: those that Optuna asks for."""

    def __init__(self, multirun: Multirun, settings: schema.SweepConfig) -> None:
        """Raises ConfigError where no setting varies, or Optuna is not installed."""
        self.optuna = optuna_module()
        self.multirun, self.settings = multirun, settings
        self.constant: list[str] = []
        self.space: dict[str, Any] = {}  # a distribution for each setting that varies
        for one in multirun.parsed():
            self.add(one)
        if not self.space:
            raise ConfigError(
                "sweep.trials asks for a search, but no setting varies",
                hint="as in 'optimizer.lr=tag(log,interval(1e-4,1e-1))' or backbone=resnet18,resnet50",
            )
        multirun.job_config(0, self.overrides(first_values(self.space)))  # a wrong setting is said now
        self.planned: list[list[str]] = []
        self.study: Any = None

    def add(self, override: Override) -> None:
        key = override.get_key_element()
        if not override.is_sweep_override():
            self.constant.append(f"{key}={override.get_value_element_as_str()}")
            return
        distributions = self.optuna.distributions
        value = override.value()
        if isinstance(value, IntervalSweep):
            whole = setting_type(self.multirun.command.settings, key, registry.families())
            self.space[key] = interval(distributions, override, value, whole=is_whole(whole))
            return
        values = list(override.sweep_string_iterator())
        if isinstance(value, RangeSweep) and not value.shuffle and len(values) > 1:
            self.space[key] = stepped(distributions, values)
        else:
            if not values:
                kind = "matches nothing" if isinstance(value, Glob) else "has no values"
                raise ConfigError(f"{override.input_line} {kind}", hint="give at least one value")
            self.space[key] = distributions.CategoricalDistribution(list(dict.fromkeys(values)))

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        return [*self.constant, *(f"{key}={params[key]}" for key in self.space)]

    # --- the study ------------------------------------------------------------------------------------------

    def begin(self, sweep: Sweep) -> None:
        """Open the study, and bring it and sweep.json together: a process may have been killed between
        writing one and the other.
        """
        with using_study(sweep.folder):
            self.study = self.optuna.create_study(
                study_name=STUDY,
                storage=storage(self.optuna, sweep.folder),
                direction="maximize",
                load_if_exists=True,
            )
            trials = self.study.get_trials(deepcopy=False)
        if len(trials) < len(sweep.jobs):
            raise CheckpointError(
                f"{sweep.folder / DATABASE} has {len(trials)} trials, but sweep.json {len(sweep.jobs)} jobs",
                hint="restore both from a backup",
            )
        for trial in trials[len(sweep.jobs) :]:
            if set(trial.params) - set(self.space):
                raise CheckpointError(
                    f"{sweep.folder / DATABASE}: trial {trial.number} has other settings than this search",
                    hint="restore it from a backup",
                )
            with using_study(sweep.folder):
                params = self.completed(trial)
            self.add_job(sweep, trial.number, params)
        for job in sweep.jobs:
            self.ended(sweep, job)
        sweep.write()

    def next(self, sweep: Sweep) -> SweepJob | None:
        if len(sweep.jobs) >= (self.settings.trials or 0):
            return None
        with using_study(sweep.folder):
            self.study.sampler = self.sampler(len(sweep.jobs))
            trial = self.study.ask(self.space)
        return self.add_job(sweep, trial.number, trial.params)

    def completed(self, trial: Any) -> dict[str, Any]:
        """The settings of a trial that was asked for. Optuna stores them one by one: those that a process did
        not store before it was killed are drawn as it would have.
        """
        sampler, found, only = self.sampler(trial.number), dict(trial.params), first_values(self.space)
        related = sampler.infer_relative_search_space(self.study, trial)
        together = sampler.sample_relative(self.study, trial, related)
        for name, distribution in self.space.items():
            if distribution.single():
                value = only[name]
            elif name in together:
                value = together[name]
            else:  # also where it is stored, so that the random numbers of the next one are those it had
                value = sampler.sample_independent(self.study, trial, name, distribution)
            if name not in found:
                stored = distribution.to_internal_repr(value)
                self.study._storage.set_trial_param(trial._trial_id, name, stored, distribution)
                found[name] = value
        return found

    def add_job(self, sweep: Sweep, number: int, params: Mapping[str, Any]) -> SweepJob:
        overrides = self.overrides(params)
        with composing(self.multirun.command):
            return sweep.add(overrides, self.multirun.job_folder(number, overrides))

    def sampler(self, number: int) -> Any:
        seed = (self.settings.seed * 1_000_003 + number) % MOST_SEED
        samplers = self.optuna.samplers
        if self.settings.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        # with jobs at the same time, those that run count as poor, so that the next one differs from them
        liar = (self.settings.jobs or 1) > 1
        return samplers.TPESampler(seed=seed, n_startup_trials=RANDOM, constant_liar=liar)

    def ended(self, sweep: Sweep, job: SweepJob) -> None:
        """Record the end of a job in the study. One that failed stays open: `sweep resume` runs it again."""
        state = self.optuna.trial.TrialState
        with using_study(sweep.folder):
            trial = self.study.get_trials(deepcopy=False)[job["job"]]
            if trial.state.is_finished() or job["status"] not in (DONE, PRUNED):
                return
            for step, miou in evaluations(sweep.job_folder(job)).items():
                if step not in trial.intermediate_values:
                    # Of a trial that was asked for by an earlier process, Optuna has no public handle.
                    self.study._storage.set_trial_intermediate_value(trial._trial_id, step, miou)
            if job["status"] == PRUNED:
                self.study.tell(job["job"], state=state.PRUNED)
            elif job["miou"] is None or not math.isfinite(job["miou"]):
                self.study.tell(job["job"], state=state.FAIL)
            else:
                self.study.tell(job["job"], job["miou"])

    def watch(self, sweep: Sweep, job: SweepJob) -> Watch | None:
        return Pruning(sweep.folder.absolute(), job["job"]) if self.settings.prune else None


def is_whole(hint: Any) -> bool:
    """Whether a setting's type takes whole numbers only."""
    kinds = typing.get_args(hint) or (hint,)
    return int in kinds and float not in kinds


def interval(distributions: Any, override: Override, value: IntervalSweep, *, whole: bool) -> Any:
    """interval(a,b): numbers from a to b, both ends included. whole: of a setting that is a whole number; so
    are those of int(interval(a,b)).
    """
    low, high, log = value.start, value.end, "log" in value.tags
    if whole and low is not None and high is not None:
        if low != int(low) or high != int(high):
            raise ConfigError(f"{override.input_line} is of a whole number", hint="give whole numbers")
        low, high = int(low), int(high)
    if low is None or high is None or not low < high or (log and low <= 0):
        above = ", above 0 with the tag log" if log else ""
        raise ConfigError(
            f"{override.input_line} is not a range", hint=f"the first number must be the smaller one{above}"
        )
    if isinstance(low, int) and isinstance(high, int):
        return distributions.IntDistribution(low, high, log=log)
    return distributions.FloatDistribution(float(low), float(high), log=log)


def stepped(distributions: Any, values: list[str]) -> Any:
    """range(a,b,step)."""
    numbers = sorted(float(one) for one in values)
    if all(one.lstrip("-").isdigit() for one in values):
        whole = [int(one) for one in numbers]
        return distributions.IntDistribution(whole[0], whole[-1], step=whole[1] - whole[0])
    return distributions.CategoricalDistribution(values)


def first_values(space: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one.choices[0] if hasattr(one, "choices") else one.low for key, one in space.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings about its own features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def using_study(folder: Path) -> Iterator[None]:
    """Raises CheckpointError where the study is damaged, and ResourceError where it cannot be written."""
    path = folder / DATABASE
    try:
        with quiet():
            yield
    except DeeplabxError:
        raise
    except Exception as error:  # noqa: BLE001 - of Optuna, SQLAlchemy and SQLite, many
        cause = error.__cause__ or error  # Optuna's own words do not say what SQLite said
        words = (str(cause).splitlines() or [type(cause).__name__])[0][:200]
        if NOT_WRITTEN.search(words):
            raise ResourceError(
                f"{path} cannot be written: {words}",
                hint="free some space, change its permissions, or end what else has it open",
            ) from None
        raise CheckpointError(f"{path} cannot be used: {words}", hint="restore it from a backup") from None


def storage(optuna: Any, folder: Path) -> Any:
    """The database of a study."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    url = f"sqlite:///{(folder / DATABASE).absolute()}"
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


# --- pruning ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pruning:
    """Called after each evaluation of a job, in its process: whether its mIoU is below the median of the
    finished jobs' at that step. Reads sweep.json and the jobs' metrics; nothing else needs to be reachable.
    """

    folder: Path
    job: int

    def __call__(self, step: int, miou: float) -> bool:
        sweep = sweep_record.read(self.folder)
        own = sweep.job_folder(sweep.jobs[self.job])
        values = {**evaluations(own), step: round(miou, 8)}
        if not below_median(sweep, self.job, values):
            return False
        replace(own / "PRUNED", f"step {step}: mIoU {miou:.4f} is below the median of the finished jobs\n")
        return True


def below_median(sweep: Sweep, number: int, values: Mapping[int, float]) -> bool:
    """Optuna's MedianPruner on the evaluations of the finished jobs. values: mIoU by step, of this job."""
    optuna = optuna_module()
    with quiet():
        study = optuna.create_study(
            direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
        )
        for job in sweep.jobs:
            if job["job"] != number and job["status"] == DONE and job["miou"] is not None:
                found = evaluations(sweep.job_folder(job))
                study.add_trial(
                    optuna.trial.create_trial(value=job["miou"], intermediate_values=found, params={})
                )
        trial = study.ask()
        for step, miou in sorted(values.items()):
            trial.report(miou, step)
        return bool(trial.should_prune())
