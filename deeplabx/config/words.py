"""Hydra's and OmegaConf's composition errors, rewritten to say what to change."""

import dataclasses
import re
from collections.abc import Callable

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from deeplabx.config.fields import Families, setting_fields, setting_type, type_words
from deeplabx.config.unknown import unknown_option, unknown_setting
from deeplabx.errors import ConfigError

Choices = Callable[[str], list[str]]  # the names of a group's options


def explained(
    error: BaseException, *, command: str, schema: type, families: Families, choices: Choices
) -> ConfigError:
    """A ConfigError for a composition error of Hydra that names the setting, the value found and the choices.

    command: without its program, such as "data fake". schema: the dataclass of its settings.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MissingConfigException):
        return missing_option(error, families, choices)
    if isinstance(error, OverrideParseException):
        if re.search(r"""[{,]\s*(['"])\w+\1\s*:""", str(error.override)):
            hint = "names in { } have no quotes, as in {name: HorizontalFlip}"
            return ConfigError(f"{error.override!r} cannot be read as a setting", hint=hint)
        return ConfigError(
            f"{error.override!r} cannot be read as a setting",
            hint="settings are key=value; quote a value with , ( ) [ ] { } as key='\"...\"'",
        )
    chosen = re.search(r"You must specify '([^']+)'", text)
    if chosen:
        group = chosen.group(1)
        return ConfigError(f"{group}= must be given", hint=f"{group} can be {', '.join(choices(group))}")
    missing = re.search(r"Missing mandatory value: ([\w.]+)", text)
    if missing:
        return ConfigError(f"{missing.group(1)} must be given", hint=f"set {missing.group(1)}=...")
    key, value = key_and_value(error, text)
    if "while parsing" in text or "while scanning" in text:
        return ConfigError(f"a YAML file cannot be read: {text[:300]}", hint="fix that line")
    if not key or key.startswith("hydra"):
        return ConfigError(
            f"cannot compose these settings: {text[:300]}",
            hint=f"`deeplabx {command} --info defaults` shows what is composed",
        )
    declared = setting_type(schema, key, families)
    if declared is not None and not dataclasses.is_dataclass(declared) and value is not None:
        field = setting_fields(schema, families).get(key)
        words = type_words(declared, field.metadata.get("options", ()) if field else ())
        return ConfigError(f"{key}={value} must be {words}", hint=better_value(key, value))
    return unknown_setting(key, schema, families)


def better_value(key: str, value: str) -> str:
    """A hint for a value of the wrong type, if there is one."""
    if key == "resume":
        return f"to continue a run: deeplabx resume {value}"
    if key == "augment.transforms":
        return "quote it for the shell: 'augment.transforms=[{name: HorizontalFlip, p: 0.5}]'"
    if key == "loss.parts":
        return "quote it for the shell: 'loss.parts=[{name: cross_entropy}, {name: lovasz, weight: 0.5}]'"
    if re.fullmatch(r"\d+(\.\d*)?e\+?\d", value) and float(value).is_integer():
        return f"set {key}={int(float(value))}"
    return ""


def key_and_value(error: BaseException, text: str) -> tuple[str, str | None]:
    """The setting that an error is about, as Hydra or OmegaConf names it, and the value it was given."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    named = re.search(
        r"(?:Could not override|Error merging override|Could not append to config|Could not delete[^']*) "
        r"'?([^'\s=]+)(?:=(\[[^\]]*\]|\{[^}]*\}|[^'\s]*))?",
        text,
    )
    in_yaml = re.search(r"full_key: ([\w.]+)", text)
    found = getattr(cause, "full_key", None) or (named or in_yaml or [None, ""])[1]
    key = str(found).lstrip("+~").rstrip(".")
    return re.sub(r"\[\d+\]$", "", key), named.group(2) if named else None  # a list, not its element


def missing_option(error: MissingConfigException, families: Families, choices: Choices) -> ConfigError:
    """An option, a group or a primary config that Hydra did not find."""
    group, _, option = str(error.missing_cfg_file or "").rpartition("/")
    if not group:
        return ConfigError(
            f"--config-name {option}: there is no primary config '{option}'",
            hint="put your own settings into FOLDER/recipe/NAME.yaml, with the first line "
            "`# @package _global_`; then: --config-dir FOLDER +recipe=NAME",
        )
    known = sorted({str(choice) for choice in error.options or []} | {*choices(group)})
    return unknown_option(group, option, known, groups=[*families, "recipe"])
