"""The overrides of a command line before Hydra reads them: plug-ins are loaded, what is not a setting is
answered, paths are quoted and lists of one get their brackets. No Hydra here, which takes a while to import.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Collection, Sequence
from typing import Any, Union

from deeplabx import registry
from deeplabx.command.quoting import in_quotes, is_quoted, unquoted
from deeplabx.command.table import Command
from deeplabx.command.yaml_files import choices
from deeplabx.config.fields import path_keys, setting_keys, setting_type
from deeplabx.config.unknown import OTHER_NAMES, meant, unknown_option, unknown_setting
from deeplabx.errors import ConfigError
from deeplabx.run import plugins

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")
PLUGINS = "plugins"


def prepared(
    command: Command, settings: Sequence[str], *, sweep: bool = False, own_folder: bool = False
) -> list[str]:
    """The overrides for Hydra, with the plug-ins they name loaded. Raises ConfigError for what is not a
    setting.

    own_folder: whether the user's own folders of YAML files are read, which may hold further options.
    """
    rest = load_plugins(settings)
    plain = [one for one in rest if re.match(r"[\w.]+=", one)]
    known = known_keys(command)
    if any(one.partition("=")[0] not in known for one in plain) or names_unknown_option(command, plain):
        plugins.load_installed()  # it takes a while, and Hydra loads them anyway
    for one in plain:
        refuse_unknown(command, one, own_folder=own_folder)
    refuse_two_lengths(rest)
    return [written(one, command, sweep=sweep) for one in rest]


# --- plug-ins -----------------------------------------------------------------------------------------------


def load_plugins(settings: Sequence[str]) -> list[str]:
    """Load what plugins= names; the other settings."""
    given, rest = [], []
    for one in settings:
        key, equals, value = one.partition("=")
        if equals and key.lstrip("+") == PLUGINS:
            given += elements(value)
        else:
            rest.append(one)
    if given:
        plugins.load(given)
    return rest


def elements(value: str) -> list[str]:
    """The elements of a list, or of one that is given bare."""
    value = unquoted(value)
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    found = [unquoted(part.strip()) for part in inside.split(",")]
    if not all(found):
        raise ConfigError(f"plugins={value} names nothing", hint="as in plugins=parts.py")
    return found


# --- what is not a setting ----------------------------------------------------------------------------------


def known_keys(command: Command) -> set[str]:
    """Every dotted key of a command, with the groups and tables on the way to it."""
    keys = setting_keys(command.settings, registry.families())
    parts = (key.split(".") for key in keys)
    return {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}


def names_unknown_option(command: Command, settings: Sequence[str]) -> bool:
    return any(
        group in own_groups(command) and value not in choices(group)
        for group, _, value in (one.partition("=") for one in settings)
    )


def own_groups(command: Command) -> set[str]:
    return {one.name for one in dataclasses.fields(command.settings)} & set(registry.GROUPS)


def refuse_unknown(command: Command, setting: str, *, own_folder: bool) -> None:
    """Raise ConfigError for a key that no schema has, and for an option that no group has."""
    key, _, value = setting.partition("=")
    if key == "recipe":
        raise ConfigError("a recipe is added, with a plus", hint=f"type +recipe={value or 'NAME'}")
    if key.split(".")[0] == "hydra":
        return
    if key not in known_keys(command):
        raise unknown_setting(key, command.settings, registry.families())
    if key in own_groups(command) and re.fullmatch(r"[\w.+-]+", value) and not own_folder:
        known = choices(key)
        if value not in known and value not in ("null", "none"):
            raise unknown_option(key, value, known, groups=[*registry.GROUPS])


def refuse_two_lengths(settings: Sequence[str]) -> None:
    """Raise ConfigError where a run is given two lengths: trainer.epochs would replace the other."""
    lengths = [one for one in settings if one.partition("=")[0] in ("trainer.epochs", "schedule.max_iters")]
    given = {one.partition("=")[0]: one for one in lengths if one.partition("=")[2] not in ("null", "")}
    if len(given) == 2:
        raise ConfigError(
            f"{' and '.join(given.values())} both say how long the run is: set only one of them",
            hint="an epoch is one pass over the training images, a step is one batch",
        )


def instead_of_flag(flag: str, value: str, command: Command) -> str:
    """The override that a flag such as `--lr 0.01` was meant to be; empty where no setting has its name."""
    known = setting_keys(command.settings, registry.families())
    name = flag.lstrip("-").replace("-", "_")
    same = [key for key in known if key == name or key.rpartition(".")[2] == name]
    found = re.search(r"Did you mean ([\w.]+)", meant(name, known)) if name in OTHER_NAMES else None
    key = min(same, key=len) if same else found[1] if found else ""
    return f"{key}={value or 'VALUE'}" if key else ""


# --- as Hydra reads it --------------------------------------------------------------------------------------


def written(setting: str, command: Command, *, sweep: bool) -> str:
    """An override as Hydra's grammar needs it."""
    families = registry.families()
    key, _, value = setting.partition("=")
    key = key.lstrip("+~")
    hint = setting_type(command.settings, key, families) if key in known_keys(command) else None
    paths = path_keys(command.settings, families)
    if not sweep and not holds_list(hint) and key not in paths and re.match(r"[\w.+-]+,", value):
        raise ConfigError(
            f"{setting} is several values", hint="type -m too for a sweep over them; a decimal point is ."
        )
    return quoted(setting, paths=paths, sweep=sweep, is_list=holds_list(hint))


def holds_list(hint: Any) -> bool:
    """Whether a setting of this type holds a list."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return any(holds_list(one) for one in typing.get_args(hint))
    return typing.get_origin(hint) is list


def quoted(setting: str, *, paths: Collection[str], sweep: bool, is_list: bool = False) -> str:
    """`setting` with the value of a path key in quotes and ~ expanded, and brackets around a list of one.

    Hydra's grammar would trip over ( ) , = ~ [ ] and letters beyond ASCII in a path. paths: the path keys;
    in a sweep a comma separates values.
    """
    key, _, value = setting.partition("=")
    is_path = key.lstrip("+~") in (*paths, *HYDRA_PATHS)
    if not (is_path or is_list) or value in ("", "null", "none"):
        return setting
    if is_list and (value[0] in "[$" or (not is_path and re.match(r"\w+\(", value))):
        return setting
    if not is_path:
        parts = value.split(",")
        if len(parts) > 1 and not sweep:
            raise ConfigError(
                f"{setting} must be a list in brackets", hint=f"type '{key}=[{value}]', or -m for a sweep"
            )
        return f"{key}=" + ",".join(f"[{part}]" for part in parts)
    parts = value.split(",") if sweep and value[0] not in "'\"" else [value]
    quotes = [part if is_quoted(part) else in_quotes(part) for part in parts]
    return f"{key}=" + ",".join(f"[{part}]" if is_list else part for part in quotes)
