"""Sweeps whose jobs are not composed: Hydra takes a fifth of a second for each."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from omegaconf import DictConfig, OmegaConf

from deeplabx.command import compose, inputs, jobs, sweep
from deeplabx.command.job import Job
from deeplabx.command.quoting import unquoted
from deeplabx.command.table import Command

DEVICES = OmegaConf.create({"trainer": {"devices": "auto"}})


def value_of(key: str, overrides: list[str]) -> str:
    (found,) = [one.partition("=")[2] for one in overrides if one.startswith(f"{key}=")]
    return unquoted(found)


class LightMultirun:
    """In place of compose.Multirun."""

    def __init__(self, command: Command, flags: dict[str, str], overrides: list[str]) -> None:
        self.command, self.config, self.hydra_overrides = command, DEVICES, list[str]()
        self.task_overrides = [one for one in overrides if not one.startswith("hydra.")]
        self.overrides = overrides

    def parsed(self) -> list[Any]:
        return []

    def grid(self) -> list[list[str]]:
        pairs = [one.partition("=") for one in self.task_overrides]
        return list(
            map(list, itertools.product(*([f"{k}={v}" for v in values.split(",")] for k, _, values in pairs)))
        )

    def job_config(self, number: int, overrides: list[str]) -> DictConfig:
        return DEVICES

    def job_folder(self, number: int, overrides: list[str]) -> str:
        return str(number)

    def claim_folder(self) -> Path:
        return Path(value_of("hydra.sweep.dir", self.overrides))


def run_without_hydra(
    command: Command, flags: dict[str, str], overrides: list[str], task: Callable[[Any], Any]
) -> None:
    folder = Path(value_of("hydra.run.dir", overrides))
    folder.mkdir(parents=True, exist_ok=True)
    hydra = mock.Mock()
    hydra.runtime.output_dir = str(folder)
    job = Job(command, None, folder, [one for one in overrides if not one.startswith("hydra.")])
    with (
        mock.patch("hydra.core.hydra_config.HydraConfig.get", return_value=hydra),
        mock.patch.object(Job, "of_hydra", return_value=job),
    ):
        task(None)


def without_composing(monkeypatch: pytest.MonkeyPatch, *, plan: bool = True) -> None:
    """Let `train -m` and `sweep resume` run jobs that are not composed; a test replaces what trains. plan:
    whether what the jobs have in common is not composed either.
    """
    whole = compose.run_hydra

    def run_hydra(
        command: Command, flags: dict[str, str], overrides: list[str], task: Callable[[Any], Any]
    ) -> None:
        run = run_without_hydra if command.words == "train" else whole
        run(command, flags, overrides, task)

    if plan:
        monkeypatch.setattr(sweep, "Multirun", LightMultirun)
    monkeypatch.setattr(jobs, "run_hydra", run_hydra)
    monkeypatch.setattr(inputs, "refuse_absent", lambda command, config: None)
