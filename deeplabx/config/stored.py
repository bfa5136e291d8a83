"""Config dataclasses to plain data and back. Nothing that is read is resolved, imported or called."""

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Union

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.config import schema
from deeplabx.config.fields import type_words
from deeplabx.config.paths import expanded_paths
from deeplabx.errors import ConfigError, quoted

MOST_VALUES, MOST_DEPTH = 1000, 20  # of a table, such as one of augment.transforms
LARGEST = 2**1023  # of a whole number where a float is asked for: a larger one is none
SettingsOf = Callable[
    [str, str], type
]  # group and option to the dataclass of its settings; raises ConfigError


def to_plain(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON-ready data. The `name` of a group says which dataclass it is read back
    as.
    """
    return dataclasses.asdict(config)


def from_plain(cls: type, plain: Any, *, settings_of: SettingsOf, key: str = "") -> Any:
    """The inverse of `to_plain`. Raises ConfigError for anything that `to_plain` does not write."""
    if not isinstance(plain, dict):
        raise ConfigError(f"{key or 'the config'} is not a table of settings")
    if "name" in plain and isinstance(plain["name"], str):
        cls = settings_of(key, plain["name"])
    hints = typing.get_type_hints(cls)
    unknown, absent = set(plain) - set(hints), set(hints) - set(plain)
    if unknown or absent:
        raise ConfigError(
            f"{key or 'the config'} does not fit this version: unknown {sorted(map(str, unknown))}, "
            f"missing {sorted(absent)}"
        )
    paths = {one.name: one.metadata.get("path") for one in dataclasses.fields(cls)}
    values = {}
    for name, hint in hints.items():
        dotted = f"{key}.{name}" if key else name
        if dataclasses.is_dataclass(hint):
            values[name] = from_plain(
                typing.cast(type, hint), plain[name], settings_of=settings_of, key=dotted
            )
        else:
            values[name] = typed(plain[name], hint, key=dotted)
            if paths.get(name):
                values[name] = expanded_paths(dotted, values[name])
    return cls(**values)


def typed(value: Any, hint: Any, *, key: str) -> Any:
    if not fits(value, hint):
        raise ConfigError(f"{key}={quoted(value)} is not {type_words(hint)}")
    return float(value) if hint is float else value


def fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(fits(element, typing.get_args(hint)[0]) for element in value)
    if origin is dict:
        return isinstance(value, dict) and is_small(value)
    if hint is float:
        return isinstance(value, float) or (type(value) is int and abs(value) < LARGEST)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def is_small(value: Any) -> bool:
    """Whether a value from a file, with all that is inside it, can be copied: aliases of YAML may stand for
    endless values, and values inside each other exhaust the stack.
    """
    waiting, counted = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        counted += 1
        if counted > MOST_VALUES or depth > MOST_DEPTH:
            return False
        parts = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += [(part, depth + 1) for part in parts]
    return True


def replace_overridden(
    base: schema.TrainConfig, composed: DictConfig, overrides: list[str], *, own_keys: Collection[str]
) -> None:
    """Copy each overridden setting from the composed config of a command onto `base`, groups first and whole.

    overrides: as Hydra lists them. own_keys: settings and sections that only the command has, such as ckpt;
    not copied.
    """
    removed = [override for override in overrides if override.startswith("~")]
    if removed:
        raise ConfigError(
            f"{removed[0]} removes a setting, but the checkpoint's model needs all of them",
            hint="set a value instead: key=value",
        )
    names = {override.lstrip("+").partition("=")[0] for override in overrides}
    if "backbone" in names and not names & {"model", "backbone.output_stride"}:
        raise ConfigError(
            "backbone=... needs model=... too: the backbone takes its output stride from the model",
            hint="set model=... too, or backbone.output_stride=16",
        )
    for name in sorted(names, key=lambda name: "." in name):
        owner, _, last = name.rpartition(".")
        if name.partition(".")[0] in own_keys:
            continue
        target: Any = base
        for part in owner.split(".") if owner else []:
            target = getattr(target, part, None)
        if not hasattr(target, last):
            whose = f"this checkpoint's {owner}={getattr(target, 'name', '?')}" if owner else "this command"
            raise ConfigError(f"{name} is not a setting of {whose}")
        try:
            value = OmegaConf.select(composed, name)
            value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            raise ConfigError(f"{name}: {' '.join(str(error.msg or error).split())[:200]}") from None
        setattr(target, last, value)


def fill_nulls(base: schema.TrainConfig, values: Mapping[str, Any], *, overrides: list[str]) -> None:
    """Set each setting of `values` that is null in `base`, unless an override made it so."""
    names = {override.lstrip("+").partition("=")[0] for override in overrides}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if getattr(getattr(base, section), name) is None and not names & {key, section}:
            setattr(getattr(base, section), name, value)
