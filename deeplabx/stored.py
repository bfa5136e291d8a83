"""A config as data in a file, and back. What is read is data: no interpolation, nothing instantiated by a
name in it. No torch here.
"""

import dataclasses
import types
import typing
from typing import Any, Union

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx import config as schema
from deeplabx.errors import ConfigError, quoted

OWN_KEYS = (
    "ckpt",
    "input",
    "out",
    "run",
)  # of the commands that start from a checkpoint: not the checkpoint's


def to_plain(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON-ready data. A group carries the name of its family, so that `from_plain`
    needs no guess.
    """
    families = {
        cls: f"{group}/{family}" for group, table in schema.FAMILIES.items() for family, cls in table.items()
    }
    plain: dict[str, Any] = {"family": families[type(config)]} if type(config) in families else {}
    for setting in dataclasses.fields(config):
        value = getattr(config, setting.name)
        plain[setting.name] = to_plain(value) if dataclasses.is_dataclass(value) else value
    return plain


def from_plain(cls: type, plain: Any, *, key: str = "") -> Any:
    """The inverse of `to_plain`. The data is read as data: no interpolation, nothing instantiated by name.
    Raises ConfigError.
    """
    if not isinstance(plain, dict):
        raise ConfigError(f"{key or 'the config'} is not a table of settings")
    plain = dict(plain)
    if "family" in plain:
        group, _, family = str(plain.pop("family")).partition("/")
        found = schema.FAMILIES.get(group, {}).get(family)
        if found is None or not issubclass(found, cls):
            raise ConfigError(f"{key} is of the unknown family {group}/{family}")
        cls = found
    hints = typing.get_type_hints(cls)
    unknown, absent = set(plain) - set(hints), set(hints) - set(plain)
    if unknown or absent:
        raise ConfigError(
            f"{key or 'the config'} does not fit this version: unknown {sorted(map(str, unknown))}, absent "
            f"{sorted(absent)}"
        )
    values = {}
    for name, hint in hints.items():
        dotted = f"{key}.{name}" if key else name
        nested = dataclasses.is_dataclass(hint) and isinstance(hint, type)
        values[name] = (
            from_plain(hint, plain[name], key=dotted) if nested else typed(plain[name], hint, key=dotted)
        )
    return cls(**values)


def typed(value: Any, hint: Any, *, key: str) -> Any:
    if not fits(value, hint):
        raise ConfigError(f"{key}={quoted(value)} is not {schema.type_words(hint)}")
    return float(value) if hint is float else value


def fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(fits(element, typing.get_args(hint)[0]) for element in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def replace_typed(base: Any, composed: DictConfig, overrides: list[str]) -> None:
    """Copy each setting that was typed (`overrides`, as Hydra lists them) from the composed config onto
    `base`, groups first and whole.
    """
    taken_away = [override for override in overrides if override.startswith("~")]
    if taken_away:
        raise ConfigError(
            f"{taken_away[0]} takes a setting away, but the checkpoint's model needs each",
            hint="give it a value: key=value",
        )
    names = [override.lstrip("+").partition("=")[0] for override in overrides]
    for name in sorted(names, key=lambda name: "." in name):
        owner, _, last = name.rpartition(".")
        if not owner and name in OWN_KEYS:
            continue
        target = base
        for part in owner.split(".") if owner else []:
            target = getattr(target, part, None)
        if not hasattr(target, last):
            whose = f"this checkpoint's {owner}={getattr(target, 'name', '?')}" if owner else "this command"
            raise ConfigError(f"{name} is not a setting of {whose}")
        try:
            value = OmegaConf.select(composed, name)
            value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            if "model.recommended" in str(error):  # a backbone takes its output stride from there
                raise ConfigError(
                    f"{name} needs the model beside it",
                    hint=f"type model=... too: {name}'s output stride comes from there",
                ) from None
            raise ConfigError(f"{name}: {' '.join(str(error.msg or error).split())[:200]}") from None
        setattr(target, last, value)
