"""Help against what Hydra composes and what the checks enforce."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from deeplabx import registry
from deeplabx.command import help as helps
from deeplabx.command import settings_page
from deeplabx.command.compose import composed
from deeplabx.command.table import BY_WORDS, COMMANDS, Command
from deeplabx.command.yaml_files import choices
from deeplabx.config import checks
from deeplabx.config.fields import number, setting_fields, setting_keys
from deeplabx.config.schema import LossSettings
from deeplabx.errors import ConfigError
from deeplabx.registry import GROUPS, families
from deeplabx.run.description import stored_model
from tests.recipes import recipe_config

EACH = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.key)
TRAIN = BY_WORDS["train"]
FIELDS = {
    key: one
    for command in COMMANDS
    if command.schema
    for key, one in setting_fields(command.settings, families()).items()
    if not key.endswith(".name")
}
JUST_OUTSIDE = {"at_least": -1, "above": 0, "at_most": 1, "below": 0}  # of a bound
BOUNDED = [
    key for key, one in FIELDS.items() if any(one.metadata.get(bound) is not None for bound in JUST_OUTSIDE)
]
CHOICES = [key for key, one in FIELDS.items() if one.metadata.get("options") and key not in BOUNDED]


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted keys of a composed config, interpolations as they are."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
        )
    return found


def plain(words: str, *overrides: str) -> dict[str, Any]:
    return flat(OmegaConf.to_container(composed(words, overrides), resolve=False))


def options(*groups: str) -> list[Any]:
    return [pytest.param(group, name, id=f"{group}={name}") for group in groups for name in choices(group)]


# --- a command ----------------------------------------------------------------------------------------------


@EACH
def test_help_begins_with_what_the_command_does_and_its_examples(command: Command) -> None:
    first, *lines = helps.command_help(command).splitlines()
    assert first == f"deeplabx {command.words}: {command.about}"
    shown = [line.strip() for line in lines]
    for example, does in command.examples:
        assert any(line.startswith(f"deeplabx {example}") and line.endswith(does) for line in shown)


@EACH
def test_help_is_no_wider_than_110_columns_and_has_no_schemas(command: Command) -> None:
    text = helps.command_help(command)
    assert max(map(len, text.splitlines())) <= 110
    assert "schema/" not in text
    assert "???" not in text
    assert "${" not in text


@EACH
def test_each_setting_takes_one_line(command: Command) -> None:
    if command.schema:
        lines = helps.command_help(command).split("\nGroups:")[0].splitlines()
        for key in helps.listed(command):
            (number,) = [number for number, line in enumerate(lines) if line.startswith(f"  {key} ")]
            following = lines[number + 1] if number + 1 < len(lines) else ""
            assert re.match(r"$|\S|  [a-z]", following), following


@pytest.mark.parametrize("section", ["trainer", "eval"])
def test_the_defaults_of_train_are_those_that_it_composes(section: str) -> None:
    text = helps.command_help(TRAIN)
    for key, value in plain("train").items():
        if key.startswith(f"{section}."):
            found = re.search(rf"^  {re.escape(key)} +(\S+(?: \S+)*?)  ", text, re.MULTILINE)
            assert found, key
            if str(value).startswith("${dataset.recommended."):
                assert found[1] == "data set's"
            else:
                assert OmegaConf.from_dotlist([f"x={found[1]}"]).x == value


@EACH
def test_the_groups_are_those_that_the_command_takes(command: Command) -> None:
    text = helps.command_help(command)
    listed = set(re.findall(r"^  \+?(\w+)=\S", text.partition("\nGroups:")[2], re.MULTILINE))
    taken = taken_fields(command) & {*GROUPS}
    if {"run", "dataset"} <= taken_fields(command):
        taken = set()  # those of the run
    assert listed == taken | ({"recipe"} if command is TRAIN else set())
    options = "".join(line[:52].strip() for line in text.partition("\nGroups:")[2].splitlines())
    assert all("|".join(choices(group)) in options for group in taken)


def taken_fields(command: Command) -> set[str]:
    return {one.name for one in dataclasses.fields(command.settings)} if command.schema else set()


def test_what_evaluates_a_checkpoint_does_so_in_what_help_says(tiny_run: Path) -> None:
    trainer = stored_model(str(tiny_run)).config.trainer
    assert {
        key: getattr(trainer, key.removeprefix("trainer.")) for key in helps.NOT_STORED
    } == helps.NOT_STORED


# --- a setting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.schema], ids=lambda command: command.key)
def test_every_key_of_a_command_is_explained(command: Command) -> None:
    for key in setting_keys(command.settings, families()):
        if not key.endswith(".name"):
            text = helps.explained([key])
            assert f"\n{key}: " in f"\n{text}"
            assert re.search(rf"(set by  |^ +).*\b{command.words}\b.*: ", text, re.MULTILINE), (
                key,
                command.words,
            )
            assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(("group", "name"), options(*GROUPS))
def test_an_options_defaults_are_those_that_hydra_composes(group: str, name: str) -> None:
    found = {key: one.default for key, one in helps.option_settings(group, name).items()}
    needed = ["backbone.model=resnet18d"] if name == "timm" else []
    keys = {key: value for key, value in plain("train", f"{group}={name}", *needed).items()
            if key.startswith(f"{group}.") and key != f"{group}.name"}  # fmt: skip
    assert found | ({"backbone.model": "resnet18d"} if needed else {}) == keys


@pytest.mark.parametrize("key", BOUNDED)
def test_the_range_is_the_one_that_is_enforced(key: str) -> None:
    rule = FIELDS[key].metadata
    outside = [rule[bound] + step for bound, step in JUST_OUTSIDE.items() if rule.get(bound) is not None]
    said = re.findall(r"^  range +(.*)$", helps.explained([key]), re.MULTILINE)
    for value in outside:
        with pytest.raises(ConfigError) as refused:
            checks.check_value(key, value, FIELDS[key])
        assert refused.value.message.split("it must be ")[1] in said
    for value in [rule[name] for name in ("at_least", "at_most") if rule.get(name) is not None]:
        checks.check_value(key, value, FIELDS[key])


@pytest.mark.parametrize("key", CHOICES)
def test_the_choices_are_the_ones_that_are_enforced(key: str) -> None:
    (said,) = re.findall(r"^  choices +(.*)$", helps.explained([key]), re.MULTILINE)
    with pytest.raises(ConfigError, match="is not one of") as refused:
        checks.check_value(key, "none of them", FIELDS[key])
    assert f"is not one of {said}." in refused.value.message


@pytest.mark.parametrize("name", choices("recipe"))
def test_a_recipe_is_named_with_the_values_that_it_gives(name: str) -> None:
    config = flat(OmegaConf.to_container(recipe_config(name), resolve=False))
    for key in (
        "optimizer.weight_decay",
        "trainer.head_lr_factor",
        "augment.crop_size",
        "model.norm_momentum",
    ):
        values = [text.partition(": ") for text in helps.recipe_values(key)]
        own = [value for value, _, names in values if name in names.split(", ")]
        assert own in ([], [helps.typed(config[key])])


def test_an_interpolated_default_says_who_recommends_it_and_what_wins() -> None:
    text = " ".join(helps.explained(["trainer.batch_size"]).split())
    assert "what the data set recommends (dataset.recommended.batch_size)" in text
    assert "voc 16" in text
    assert "command-line overrides win over a recipe, a recipe over what the data set recommends" in text


def test_a_default_that_differs_is_given_for_each_option() -> None:
    text = helps.explained(["optimizer.lr"])
    assert "adamw, torch: 0.001" in text
    assert "sgd: what the data set recommends" in text


def test_a_setting_of_some_options_names_them() -> None:
    assert re.search(
        r"^  options +boundary, cross_entropy, ohem$", helps.explained(["loss.keep_priors"]), re.MULTILINE
    )
    assert re.search(r"^  options +every backbone$", helps.explained(["backbone.weights"]), re.MULTILINE)


# --- a group, an option, a word -----------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_explained_by_its_options_and_settings(group: str) -> None:
    text = helps.explained([group])
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in choices(group))
    keys = {key for key in FIELDS if key.startswith(f"{group}.")}
    assert set(re.findall(rf"^  ({group}\.[\w.]+) ", text, re.MULTILINE)) == keys
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(("group", "name"), options(*GROUPS))
def test_an_option_is_explained(group: str, name: str) -> None:
    text = helps.explained([f"{group}={name}"])
    assert text.startswith(f"{group}={name}: ")
    assert max(map(len, text.splitlines())) <= 110


def test_recipes_are_explained() -> None:
    text = helps.explained(["recipe"])
    assert all(f"+recipe={name} " in text for name in choices("recipe"))
    assert max(map(len, text.splitlines())) <= 110


@EACH
def test_a_command_is_explained_by_its_help(command: Command) -> None:
    assert helps.explained(command.words.split()).startswith(helps.command_help(command))


def test_what_is_both_a_command_and_a_setting_is_explained_as_both() -> None:
    text = helps.explained(["resume"])
    assert text.startswith("deeplabx resume: ")
    assert "\n\nresume: continue from the newest checkpoint" in text


def test_words_are_explained_one_after_the_other() -> None:
    assert helps.explained(["seed", "loss"]) == f"{helps.explained(['seed'])}\n\n{helps.explained(['loss'])}"


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("lr", "optimizer.lr"),
        ("trainer.ema_deca", "trainer.ema_decay"),
        ("optimiser", "optimizer"),
        ("loss=cross_entrop", "cross_entropy"),
        ("predcit", "predict"),
        ("recipes", "recipe"),
        ("gpus", "trainer.devices"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"Did you mean {near}?")) as error:
        helps.explained([word])
    assert error.value.exit_code == 2


def test_an_option_from_outside_is_explained(own_options: None) -> None:
    from dataclasses import dataclass

    @dataclass
    class OwnSettings(LossSettings):
        slope: float = number(above=0, at_most=10, default=2.0)
        plain: bool = False

    registry.register("loss", "own", build="nowhere:own", settings=OwnSettings, words="Own loss")
    assert re.search(r"(\||^ +)own\b", helps.command_help(TRAIN), re.MULTILINE)
    assert re.search(r"^  own +Own loss$", helps.explained(["loss"]), re.MULTILINE)
    assert re.search(
        r"^  loss.slope +2.0 +\[float > 0, <= 10\]$", helps.explained(["loss=own"]), re.MULTILINE
    )
    assert helps.explained(["loss.slope"]).startswith("loss.slope\n  type      a number\n")
    assert helps.explained(["loss.plain"]).startswith("loss.plain\n  type      true or false\n")


# --- cost and page ------------------------------------------------------------------------------------------


def test_help_imports_neither_hydra_nor_omegaconf_nor_torch() -> None:
    code = """if True:
        import sys
        from deeplabx.command import help as helps
        helps.command_help(helps.BY_WORDS["train"])
        helps.explained(["trainer.ema_decay", "backbone", "plugins"])
        print(*sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"hydra", "omegaconf", "torch", "numpy", "antlr4"}


def test_the_page_of_settings_is_what_the_schema_says() -> None:
    path = Path(__file__).parents[2] / "docs" / "settings.md"
    assert path.read_text() == settings_page.page(), f"write it again: {settings_page.COMMAND}"


def test_the_page_has_every_setting() -> None:
    assert set(re.findall(r"^\| `([\w.]+)` \|", settings_page.page(), re.MULTILINE)) == {*FIELDS, "plugins"}
