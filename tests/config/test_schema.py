"""The schema says what each setting means, and needs the standard library only to say it."""

import ast
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeplabx.command.table import COMMANDS
from deeplabx.config import schema
from deeplabx.config.fields import setting_keys
from deeplabx.registry import GROUPS, families

FOLDER = Path(schema.__file__).parent
SETTINGS = [one for one in vars(schema).values() if isinstance(one, type) and dataclasses.is_dataclass(one)]


def declared() -> Iterator[Any]:
    """Parameters (class, field): each field that a dataclass of the schema declares itself."""
    for owner in SETTINGS:
        for one in dataclasses.fields(owner):
            if one.name in owner.__annotations__ and not (one.name == "name" and issubclass(owner, groups())):
                yield pytest.param(owner, one, id=f"{owner.__name__}.{one.name}")


def groups() -> tuple[type, ...]:
    return tuple(GROUPS.values())


def is_section(one: dataclasses.Field[Any]) -> bool:
    return one.default_factory is not dataclasses.MISSING


@pytest.mark.parametrize(("owner", "one"), [*declared()])
def test_every_setting_says_what_it_means_in_one_line(owner: type, one: dataclasses.Field[Any]) -> None:
    words = one.metadata.get("words", "")
    if is_section(one) and not words:  # of a command: what it is stands in TrainConfig
        words = schema.TrainConfig.__dataclass_fields__[one.name].metadata["words"]
    assert words, f"{owner.__name__}.{one.name} has no words="
    assert "\n" not in words
    assert not words.endswith(".")
    assert len(words) <= 150


@pytest.mark.parametrize("file", ["fields.py", "schema.py"])
def test_the_standard_library_is_enough(file: str) -> None:
    tree = ast.parse((FOLDER / file).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "deeplabx"}
    assert {name for name in names if name.startswith("deeplabx")} <= {"deeplabx.config.fields"}


def test_missing_is_omegaconfs() -> None:
    from omegaconf import MISSING

    from deeplabx.config import fields

    assert fields.MISSING == MISSING


def test_what_is_free_on_resume_are_settings_of_a_training() -> None:
    assert set(schema.FREE_ON_RESUME) <= set(setting_keys(schema.TrainConfig, families()))


def test_every_command_with_settings_has_a_schema_here() -> None:
    assert {command.schema for command in COMMANDS if command.schema} <= {one.__name__ for one in SETTINGS}
