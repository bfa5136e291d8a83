"""Each line of the table against what it names."""

import pytest

from deeplabx.command.dispatch import function_of
from deeplabx.command.table import COMMANDS, Command, second_words
from deeplabx.command.yaml_files import conf_dir
from deeplabx.config.fields import setting_keys
from deeplabx.registry import families
from tests.conftest import Deeplabx

EACH = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.key)


@EACH
def test_what_a_command_names_is_there(command: Command) -> None:
    assert callable(function_of(command))
    assert (conf_dir() / f"{command.key}.yaml").is_file() == bool(command.schema)
    if command.schema:
        assert set(command.needs) <= set(setting_keys(command.settings, families()))


@EACH
def test_help_of_every_command_is_exit_0(deeplabx: Deeplabx, command: Command) -> None:
    ended = deeplabx(*command.words.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"deeplabx {command.words}: {command.about}\n")


def test_the_second_words() -> None:
    assert second_words("weights") == ("list", "import", "verify")
    assert second_words("train") == ()
