"""A setting: what it means, its range or choices, what it is for, and its key. The dataclasses that hold
settings use these.

Standard library only: help explains every setting without importing Hydra or OmegaConf.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Union

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given; importing OmegaConf takes 0.1 s

Families = Mapping[str, Sequence[type]]  # by group: the settings dataclasses of its options


def setting(
    *,
    words: str = "",
    source: str = "",
    default: Any = MISSING,
    builder: bool = True,
    path: bool = False,
    parts: tuple[str, ...] = (),
) -> Any:
    """A field. words: its meaning in one line; help prints only what is before the first semicolon where the
    whole does not fit. source: the paper or code that its number comes from.

    builder: whether the option's builder takes it. path: whether its value is a path. parts: settings of
    which one must be true for this one to have an effect.
    """
    metadata = {"words": words, "source": source, "builder": builder, "path": path, "parts": parts}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def number(
    *,
    words: str = "",
    source: str = "",
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
    metadata = {**bounds, "words": words, "source": source, "builder": builder, "parts": parts}
    return field(default=default, metadata=metadata)


def choice_or_number(
    *options: str,
    words: str = "",
    source: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    default: Any = MISSING,
    parts: tuple[str, ...] = (),
) -> Any:
    """A field whose value must be one of `options`, or a whole number within the range; else as `setting`."""
    bounds = {"at_least": at_least, "at_most": at_most}
    metadata = {"options": options, **bounds, "words": words, "source": source, "parts": parts}
    return field(default=default, metadata=metadata)


def choice(
    *options: Any,
    words: str = "",
    source: str = "",
    default: Any = MISSING,
    builder: bool = True,
    parts: tuple[str, ...] = (),
) -> Any:
    """A field whose value (or whose every element) must be one of `options`; else as `setting`."""
    metadata = {"options": options, "words": words, "source": source, "builder": builder, "parts": parts}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def nested(settings: Callable[[], Any], *, words: str = "", builder: bool = True) -> Any:
    """A field that holds another dataclass of settings: the class, or a function that makes one."""
    return field(default_factory=settings, metadata={"words": words, "builder": builder})


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


def range_words(rule: Mapping[str, Any]) -> str:
    """The range in a field's metadata: 'at least 1 and below 2', or nothing."""
    words = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
    return " and ".join(f"{words[name]} {rule[name]}" for name in words if rule.get(name) is not None)


def type_words(hint: Any, options: Sequence[Any] = ()) -> str:
    """A type in a user's words: 'a whole number', 'a list of numbers such as [6,12]'. options: the texts that
    it can be, where it can be something else too.
    """
    if typing.get_origin(hint) in (Union, types.UnionType):
        kinds = typing.get_args(hint)
        if options and set(kinds) - {type(None)} == {int, str}:
            null = ", null" if type(None) in kinds else ""
            return f"{', '.join(options)}{null} or {type_words(int)}"
        return " or ".join(type_words(kind) for kind in kinds)
    if typing.get_origin(hint) is list and typing.get_origin(typing.get_args(hint)[0]) is dict:
        return "a list such as [{name: NAME, KEY: VALUE}]"
    if typing.get_origin(hint) is dict:
        return "a table such as {KEY: VALUE}"
    if typing.get_origin(hint) is list:
        texts = typing.get_args(hint) == (str,)
        return "a list of texts such as [a,b]" if texts else "a list of numbers such as [6,12]"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return {**words, type(None): "null"}.get(hint, str(hint))
