"""The settings sweep.* of -m. They are taken from the command line before Hydra reads it: they belong to the
sweep, and no run's config or checkpoint has them.
"""

import copy
import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

import yaml

from deeplabx.command.quoting import elements, unquoted
from deeplabx.command.table import Command
from deeplabx.config import schema, stored
from deeplabx.config.checks import check_value
from deeplabx.config.fields import setting_fields, setting_type, walk
from deeplabx.config.unknown import unknown_setting
from deeplabx.errors import ConfigError, printable

PREFIX = "sweep."
FIXED = ("sampler", "seed", "prune")  # of a search that has begun


def taken(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings sweep.*, and the others."""
    own = [one for one in settings if one.lstrip("+~").startswith(PREFIX)]
    return own, [one for one in settings if one not in own]


def refuse_misplaced(command: Command, own: Sequence[str], *, sweep: bool) -> None:
    """Raise ConfigError for sweep.* of a command that has none, or without -m."""
    if own and not command.searches:
        raise ConfigError(
            f"{printable(own[0])} is a setting of deeplabx train -m", hint=f"leave it out of {command.words}"
        )
    if own and not sweep:
        raise ConfigError(f"{printable(own[0])} is a setting of a sweep", hint="add -m, or leave it out")


def sweep_config(own: Sequence[str], base: schema.SweepConfig | None = None) -> schema.SweepConfig:
    """`base` with the settings sweep.* of a command line. Raises ConfigError for an unknown one, for one of a
    wrong type or out of range, and for settings of a launcher or a search that there is not.
    """
    config = copy.deepcopy(base or schema.SweepConfig())
    fields = setting_fields(schema.SweepResumeConfig, {})
    for one in own:
        key, _, text = one.partition("=")
        if key not in fields or not key.startswith(PREFIX):
            raise unknown_setting(key, schema.SweepResumeConfig, {})
        value = value_of(key, text)
        check_value(key, value, fields[key])
        target: Any = config
        *sections, last = key.split(".")[1:]
        for section in sections:
            target = getattr(target, section)
        setattr(target, last, value)
    refuse_unused(own, config)
    return config


def value_of(key: str, text: str) -> Any:
    """The value of a setting as its type asks."""
    hint = setting_type(schema.SweepResumeConfig, key, {})
    if typing.get_origin(hint) is not None and list[str] in typing.get_args(hint) and text != "null":
        inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return [unquoted(part) for part in elements(inside)]
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        value = text
    if hint == str | None and value is not None:
        value = unquoted(text)
    return stored.typed(value, hint, key=key)


def refuse_unused(own: Sequence[str], config: schema.SweepConfig) -> None:
    """Raise ConfigError for a setting that would have no effect."""
    for key in (one.partition("=")[0] for one in own):
        if key.startswith("sweep.slurm.") and config.launcher != "slurm":
            raise ConfigError(f"{key} has no effect without sweep.launcher=slurm", hint="add it")
        if key.removeprefix(PREFIX) in FIXED and config.trials is None:
            raise ConfigError(f"{key} is of a search, which needs sweep.trials", hint="as in sweep.trials=40")
    for one in config.slurm.extra or ():
        name, equals, _ = one.partition("=")
        if not equals or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(
                f"sweep.slurm.extra={printable(one, 80)} is not an option of sbatch with its value",
                hint="as in 'sweep.slurm.extra=[account=vision,qos=low]'",
            )


def refuse_changed(base: schema.SweepConfig, now: schema.SweepConfig) -> None:
    """Raise ConfigError for what may not change when a sweep is resumed."""
    if (base.trials is None) != (now.trials is None):
        raise ConfigError(
            "sweep.trials cannot make a grid a search, nor a search a grid", hint="leave it out"
        )
    for name in FIXED:
        was, given = getattr(base, name), getattr(now, name)
        if was != given:
            raise ConfigError(
                f"sweep.{name} was {was}, now {given}: a search continues as it began", hint="leave it out"
            )
    if base.trials is not None and now.trials is not None and now.trials < base.trials:
        raise ConfigError(
            f"sweep.trials was {base.trials}, now {now.trials}: a search can only become longer",
            hint="leave it out",
        )


def plain(config: schema.SweepConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_plain(found: Any, *, source: object) -> schema.SweepConfig:
    """What `plain` made. Raises ConfigError for anything else."""
    config: schema.SweepConfig = stored.from_plain(
        schema.SweepConfig, found, settings_of=refuse_group, key="settings"
    )
    for key, value, field in walk(config, PREFIX):
        check_value(key, value, field)
    return config


def refuse_group(group: str, name: str) -> type:
    raise ConfigError(f"{group}={name} is not a setting of a sweep")
