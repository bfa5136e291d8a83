"""The overrides of a command line, before Hydra reads them: load plug-ins, refuse what is not a setting,
quote paths, and add the brackets of a list of one. Hydra is not imported here: that takes a while.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Union

from deeplabx import registry
from deeplabx.command import quoting
from deeplabx.command.quoting import in_quotes, is_quoted, unquoted
from deeplabx.command.table import Command
from deeplabx.command.yaml_files import choices
from deeplabx.config.fields import path_keys, setting_keys, setting_type
from deeplabx.config.unknown import OTHER_NAMES, meant, unknown_option, unknown_setting
from deeplabx.errors import ConfigError
from deeplabx.run import plugins

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")
PLUGINS = "plugins"
STAGE = re.compile(r"stages\.\w+\.")


def prepared(
    command: Command, settings: Sequence[str], *, sweep: bool = False, own_folder: bool = False
) -> list[str]:
    """The overrides as Hydra reads them; the plug-ins among them are loaded and taken out.

    own_folder: whether Hydra reads a folder of the user's own, which may hold further options. Raises
    ConfigError for a key or an option that does not exist, and for settings that contradict each other.
    """
    if isinstance(settings, str | Mapping):
        raise ConfigError("overrides is a list of strings", hint="as in ['optimizer.lr=0.01', 'seed=1']")
    rest = load_plugins(settings)
    plain = [one.partition("=") for one in rest if re.match(r"[\w.]+=", one)]
    known = known_keys(command)
    if "stages" in known:
        refuse_in_stage(command, plain, own_folder=own_folder)
        plain = [(key, equals, value) for key, equals, value in plain if key == of_stage(key)]
    if any(key not in known or is_unknown_option(command, key, value) for key, _, value in plain):
        plugins.load_installed()  # only now, because it takes a while; before composing, all are loaded
        known = known_keys(command)
    for key, _, value in plain:
        refuse_unknown(command, key, value, known=known, own_folder=own_folder)
    refuse_two_lengths(rest)
    families = registry.families()
    paths = path_keys(command.settings, families)
    rest = with_plus(command, rest) if command.overrides_stored else rest
    rest = [f"++{one}" if re.match(r"stages[.=]", one) else one for one in rest]  # which may be a new one
    return [written(one, hint=type_of(command, one, known), paths=paths, sweep=sweep) for one in rest]


def type_of(command: Command, setting: str, known: set[str]) -> Any:
    """The declared type of an override's setting; None for Hydra's own."""
    key = of_stage(setting.partition("=")[0].lstrip("+~"))
    return setting_type(command.settings, key, registry.families()) if key in known else None


def with_plus(command: Command, settings: Sequence[str]) -> list[str]:
    """The settings of a command that changes what is stored. Those that only some options of a group have get
    the plus with which Hydra adds a key: the option is known when the checkpoint is read.
    """
    common = setting_keys(command.settings, {})
    of_options = set(setting_keys(command.settings, registry.families())) - set(common)
    groups = {one.partition("=")[0] for one in settings}  # whose option the command line chooses
    keys = [one.partition("=")[0] for one in settings]
    return [
        f"+{one}" if key in of_options and key.partition(".")[0] not in groups else one
        for key, one in zip(keys, settings, strict=True)
    ]


# --- stages -------------------------------------------------------------------------------------------------


def of_stage(key: str) -> str:
    """The setting that a key such as stages.second.optimizer.lr sets in a stage; any other key as it is, and
    nothing for a stage as a whole.
    """
    return STAGE.sub("", f"{key}.").rstrip(".")


def refuse_in_stage(command: Command, plain: Sequence[tuple[str, str, str]], *, own_folder: bool) -> None:
    """Raise ConfigError for a setting of a stage that no schema has."""
    of_stages = [(key, of_stage(key), value) for key, _, value in plain if key != of_stage(key)]
    if any(own and own not in known_keys(command) for _, own, _ in of_stages):
        plugins.load_installed()
    for key, own, value in of_stages:
        if not own:
            continue
        try:
            refuse_unknown(command, own, value, known=known_keys(command), own_folder=own_folder)
        except ConfigError as error:
            error.message = f"{key.removesuffix(f'.{own}')}: {error.message}"
            raise


# --- plug-ins -----------------------------------------------------------------------------------------------


def load_plugins(settings: Sequence[str]) -> list[str]:
    """Load the plug-ins that plugins= names. Returns the other settings."""
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
    """The elements of a list such as [a.py,b.py]; a single one needs no brackets."""
    value = unquoted(value)
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    found = [unquoted(part) for part in quoting.elements(inside)]
    if not found or not all(found):
        raise ConfigError(f"plugins={value} names nothing", hint="as in plugins=parts.py")
    return found


# --- what is not a setting ----------------------------------------------------------------------------------


def known_keys(command: Command) -> set[str]:
    """Every dotted key of a command, and every prefix of one, such as `trainer`."""
    keys = setting_keys(command.settings, registry.families())
    parts = (key.split(".") for key in keys)
    return {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}


def is_in_table(command: Command, key: str) -> bool:
    """Whether `key` is one of a setting that holds a table, such as optimizer.settings.momentum."""
    owner = key.rpartition(".")[0]
    return typing.get_origin(setting_type(command.settings, owner, registry.families())) is dict


def is_unknown_option(command: Command, key: str, value: str) -> bool:
    """Whether `key` is a group of the command, and `value` a plain word that is none of its options."""
    groups = {one.name for one in dataclasses.fields(command.settings)} & set(registry.GROUPS)
    plain = re.fullmatch(r"[\w.+-]+", value) is not None and value not in ("null", "none")
    return key in groups and plain and value not in choices(key)


def refuse_unknown(command: Command, key: str, value: str, *, known: set[str], own_folder: bool) -> None:
    """Raise ConfigError for a key that no schema has, and for an option that no group has."""
    if key == "recipe":
        raise ConfigError("a recipe is added, with a plus", hint=f"type +recipe={value or 'NAME'}")
    if key.split(".")[0] == "hydra":
        return
    if key not in known and not is_in_table(command, key):
        raise unknown_setting(key, command.settings, registry.families())
    if is_unknown_option(command, key, value) and not own_folder:
        raise unknown_option(key, value, choices(key), groups=[*registry.GROUPS])


def refuse_two_lengths(settings: Sequence[str]) -> None:
    """Raise ConfigError for both trainer.epochs and schedule.max_iters: one would replace the other."""
    parts = [(one, *one.partition("=")) for one in settings]
    given = {
        key: one
        for one, key, _, value in parts
        if key in ("trainer.epochs", "schedule.max_iters") and value not in ("null", "")
    }
    if len(given) == 2:
        raise ConfigError(
            f"{' and '.join(given.values())} both say how long the run is: set only one of them",
            hint="an epoch is one pass over the training images, a step is one batch",
        )


def instead_of_flag(flag: str, value: str, command: Command) -> str:
    """The override that a flag such as `--lr 0.01` stands for; empty if no setting has that name."""
    known = setting_keys(command.settings, registry.families())
    name = flag.lstrip("-").replace("-", "_")
    same = [key for key in known if key == name or key.rpartition(".")[2] == name]
    found = re.search(r"Did you mean ([\w.]+)", meant(name, known)) if name in OTHER_NAMES else None
    key = min(same, key=len) if same else found[1] if found else ""
    return f"{key}={value or 'VALUE'}" if key else ""


# --- as Hydra reads it --------------------------------------------------------------------------------------


def written(setting: str, *, hint: Any, paths: Collection[str], sweep: bool) -> str:
    """An override as Hydra's grammar needs it. hint: the declared type of its setting."""
    key, _, value = setting.partition("=")
    is_list = holds_list(hint)
    if (
        not sweep
        and not is_list
        and of_stage(key.lstrip("+~")) not in paths
        and re.match(r"[\w.+-]+,", value)
    ):
        raise ConfigError(
            f"{setting} holds several values", hint="add -m to sweep over them, or write a decimal point"
        )
    return quoted(setting, paths=paths, sweep=sweep, is_list=is_list)


def holds_list(hint: Any) -> bool:
    """Whether a setting of this type holds a list."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return any(holds_list(one) for one in typing.get_args(hint))
    return typing.get_origin(hint) is list


def quoted(setting: str, *, paths: Collection[str], sweep: bool, is_list: bool = False) -> str:
    """`setting` with the value of a path key in quotes, and brackets around a list of one.

    Hydra's grammar would trip over ( ) , = ~ [ ] and letters beyond ASCII in a path. paths: the path keys;
    in a sweep a comma separates values.
    """
    key, _, value = setting.partition("=")
    is_path = of_stage(key.lstrip("+~")) in (*paths, *HYDRA_PATHS)
    if not (is_path or is_list) or value in ("", "null", "none"):
        return setting
    if is_path and is_list and re.fullmatch(r"\[[^\[\]]*\]", value):
        return f"{key}=[{','.join(map(in_own_quotes, quoting.elements(value[1:-1])))}]"
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
    quotes = list(map(in_own_quotes, parts))
    return f"{key}=" + ",".join(f"[{part}]" if is_list else part for part in quotes)


def in_own_quotes(path: str) -> str:
    """A path in the quotes that were typed, else in ours."""
    return path if is_quoted(path) else in_quotes(path)
