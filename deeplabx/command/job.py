"""One call of a command."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.command.compose import checked
from deeplabx.command.table import Command
from deeplabx.config import checks, schema, stored
from deeplabx.errors import ConfigError

# Called with step and mIoU of an evaluation; whether the training is to be stopped. It can be pickled.
Watch = Callable[[int, float], bool]


@dataclass(frozen=True)
class Job:
    """A command with its config, its folder and its overrides.

    config: of a command without a stored config, checked dataclasses; of the others, what Hydra composed.
    """

    command: Command
    config: Any
    folder: Path
    overrides: list[str]  # from the command line: `${...}` in one is not resolved
    watch: Watch | None = None  # of a training's evaluations, in a sweep that prunes

    @classmethod
    def of_hydra(cls, command: Command, config: DictConfig) -> "Job":
        """The job that Hydra has started. Raises ConfigError where a setting is missing or out of range."""
        for key, meaning in command.needs.items():
            require(config, key, meaning)
        hydra = HydraConfig.get()
        overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
        plain = config if command.overrides_stored else checked(config)
        return cls(command, plain, Path(hydra.runtime.output_dir), [str(one) for one in overrides])

    @property
    def own_keys(self) -> set[str]:
        """Settings that the command has and a training has not, such as ckpt."""
        own, training = (
            {field.name for field in dataclasses.fields(one)}
            for one in (self.command.settings, schema.TrainConfig)
        )
        return own - training

    def changed(self, base: schema.TrainConfig, *, training: bool = False) -> schema.TrainConfig:
        """`base`, the config of a run or checkpoint, with the overrides in place of what is stored.

        training: whether it is to be trained with. Raises ConfigError when it does not fit or breaks a rule.
        """
        config = copy.deepcopy(base)
        stored.replace_overridden(config, self.config, self.overrides, own_keys=self.own_keys)
        stored.fill_nulls(config, self.command.in_place_of_null, overrides=self.overrides)
        checks.check(config, training=training)
        return config


def require(config: DictConfig, key: str, meaning: str) -> None:
    """Raise ConfigError unless the setting has a value."""
    try:
        value = OmegaConf.select(config, key, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {' '.join(str(error.msg or error).split())[:200]}") from None
    if value is None or value == "":  # not given, or removed with ~
        raise ConfigError(f"{key}= must be given: {meaning}")
