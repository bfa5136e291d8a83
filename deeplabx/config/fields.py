"""A setting: its range or choices, what it is for, and its key. The dataclasses that hold settings use
these.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Union

from omegaconf import MISSING

Families = Mapping[str, Sequence[type]]  # by group: the settings dataclasses of its options


def setting(
    *, default: Any = MISSING, builder: bool = True, path: bool = False, parts: tuple[str, ...] = ()
) -> Any:
    """A field. builder: whether the option's builder takes it. path: whether its value is a path.

    parts: settings of which one must be true for this one to have an effect.
    """
    return field(default=default, metadata={"builder": builder, "path": path, "parts": parts})


def number(
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    default: Any = MISSING,
    builder: bool = True,
    parts: tuple[str, ...] = (),
) -> Any:
    """A field whose value (or whose every element) must be finite and within the range; else as `setting`."""
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    return field(default=default, metadata={**bounds, "builder": builder, "parts": parts})


def choice(*options: Any, default: Any = MISSING, builder: bool = True, parts: tuple[str, ...] = ()) -> Any:
    """A field whose value must be one of `options`; else as `setting`."""
    return field(default=default, metadata={"options": options, "builder": builder, "parts": parts})


def nested(settings: type, *, builder: bool = True) -> Any:
    """A field that holds another dataclass of settings, with its defaults."""
    return field(default_factory=settings, metadata={"builder": builder})


def builder_settings(config: Any) -> dict[str, Any]:
    """The settings of an option that its builder takes: all but its name and those that are for the run."""
    taken = [one.name for one in dataclasses.fields(config) if one.metadata.get("builder", True)]
    return {name: getattr(config, name) for name in taken if name != "name"}


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every (dotted key, value, field) below a dataclass instance."""
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{one.name}.")
        else:
            yield prefix + one.name, value, one


def candidates(hint: Any, name: str, families: Families) -> list[type]:
    """The dataclasses that a field of this type can hold: of a group, those of all its options."""
    if not dataclasses.is_dataclass(hint):
        return []
    return list(dict.fromkeys([typing.cast(type, hint), *families.get(name, ())]))


def setting_type(schema: type, key: str, families: Families) -> Any:
    """The declared type of a dotted key, looked for in every option of its group; None when there is none."""
    head, _, rest = key.partition(".")
    hints = typing.get_type_hints(schema)
    if head not in hints or not rest:
        return hints.get(head)
    found = (setting_type(one, rest, {}) for one in candidates(hints[head], head, families))
    return next((hint for hint in found if hint is not None), None)


def setting_fields(schema: type, families: Families, prefix: str = "") -> dict[str, dataclasses.Field[Any]]:
    """Every dotted key that a command knows, those of all options of a group included, with its field."""
    hints = typing.get_type_hints(schema)
    found: dict[str, dataclasses.Field[Any]] = {}
    for one in dataclasses.fields(schema):
        owners = candidates(hints[one.name], one.name, families)
        for owner in owners:
            found = {**setting_fields(owner, {}, f"{prefix}{one.name}."), **found}
        if not owners:
            found[prefix + one.name] = one
    return found


def setting_keys(schema: type, families: Families) -> list[str]:
    """Every dotted key that a command knows, those of all options of a group included."""
    return list(setting_fields(schema, families))


def path_keys(schema: type, families: Families) -> set[str]:
    """The dotted keys whose values are paths."""
    return {key for key, one in setting_fields(schema, families).items() if one.metadata.get("path")}


def type_words(hint: Any) -> str:
    """A type in a user's words: 'a whole number', 'a list of numbers such as [6,12]'."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_words(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return "a list of numbers such as [6,12]"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return {**words, type(None): "null"}.get(hint, str(hint))
