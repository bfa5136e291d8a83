"""The configs of stages: what a recipe and the command line make of them, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deeplabx.command.compose import training_config
from deeplabx.command.overrides import prepared
from deeplabx.command.table import BY_WORDS
from deeplabx.config import schema
from deeplabx.config.checks import check_stages
from deeplabx.config.fields import walk
from deeplabx.config.stages import stages_of
from deeplabx.errors import ConfigError
from tests.conftest import Compose

TWO = """# @package _global_
optimizer: {weight_decay: 0.0002}
stages:
  first: {}
  second: {backbone: {output_stride: 8}, model: {norm: frozen}, optimizer: {lr: 0.001}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "recipe").mkdir()
    (folder / "recipe" / "two.yaml").write_text(TWO, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def plain() -> schema.TrainConfig:
    return training_config()


def configs(folder: Path, *overrides: str) -> list[schema.TrainConfig]:
    own = prepared(BY_WORDS["train"], ["+recipe=two", *overrides], own_folder=True)
    return [stage.config for stage in stages_of(training_config(own, folders=[folder]))]


def test_a_stage_is_the_run_but_for_what_it_changes(folder: Path) -> None:
    first, second = ({key: value for key, value, _ in walk(one)} for one in configs(folder))
    whole = {key: value for key, value, _ in walk(training_config(["optimizer.weight_decay=2e-4"]))}
    assert first == whole
    changed = {"backbone.output_stride": 8, "model.norm": "frozen", "optimizer.lr": 0.001}
    assert second == {**whole, **changed}


@pytest.mark.parametrize(
    ("overrides", "key", "values"),
    [
        (["optimizer.lr=0.1"], "optimizer.lr", [0.1, 0.1]),
        (["stages.second.optimizer.lr=0.002"], "optimizer.lr", [0.05, 0.002]),
        (["optimizer.lr=0.1", "stages.second.optimizer.lr=0.002"], "optimizer.lr", [0.1, 0.002]),
        (["stages.second.optimizer.weight_decay=1e-5"], "optimizer.weight_decay", [2e-4, 1e-5]),
        (["stages.second.schedule.max_iters=7", "schedule.max_iters=2"], "schedule.max_iters", [2, 7]),
        (["trainer.epochs=3", "stages.second.schedule.max_iters=7"], "trainer.epochs", [3.0, None]),
        (["+stages.third.seed=3"], "seed", [0, 0, 3]),
        (["~stages.second"], "backbone.output_stride", [16]),
        (["stages=null"], "seed", []),
        (["stages.second.model.atrous_rates=6"], "model.atrous_rates", [None, [6]]),
        (["stages.first.init_from=~here"], "init_from", ["~here", None]),
    ],
)
def test_the_command_line_beats_the_recipe_and_what_names_a_stage_beats_both(
    folder: Path, overrides: Sequence[str], key: str, values: Sequence[Any]
) -> None:
    found = [{one: value for one, value, _ in walk(config)}[key] for config in configs(folder, *overrides)]
    assert found == values


@pytest.mark.parametrize("key", ["optimizer.lrr", "optimzer.lr"])
def test_a_misspelt_setting_of_a_stage_is_answered_as_any_other(key: str) -> None:
    words = rf"stages.second: {key} is not a setting. Did you mean optimizer.lr?"
    with pytest.raises(ConfigError, match=words):
        prepared(BY_WORDS["train"], [f"stages.second.{key}=1"])


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"optimizer": {"lrr": 1}}, r"stages.b.optimizer.lrr is not a setting. Did you mean optimizer.lr?"),
        ({"optimizer": "adamw"}, r"stages.b.optimizer='adamw': a stage changes settings, not options"),
        ({"optimizer": {"name": "adamw"}}, r"stages.b.optimizer='adamw': a stage changes settings, not op"),
        ({"optimizer": {"lr": -1}}, r"stage b: optimizer.lr=-1.0 is out of range: it must be above"),
        ({"optimizer": {"lr": "high"}}, r"stages.b.optimizer.lr='high' must be a number"),
        ({"optimizer": {"lr": 10**400}}, r"must be a number"),
        ({"optimizer": {"lr": float("nan")}}, r"stage b: optimizer.lr=nan is not a finite number"),
        ({"schedule": {"max_iters": 1.5}}, r"stages.b.schedule.max_iters=1.5 must be a whole number"),
        ({"schedule": {"max_iters": 3}, "trainer": {"epochs": 2}}, r"b has both schedule.max_iters and"),
        ({"schedule": {"warmup_iters": 550}}, r"stage b: schedule.warmup_iters=550 must be smaller"),
        ({"trainer": {"accumulate": 3}}, r"stage b: trainer.batch_size=8 is not divisible"),
        ({"trainer": {"devices": 2}}, r"stages.b.trainer.devices belongs to the whole run"),
        ({"augment": {"crop_size": 4}}, r"stage b: augment.crop_size=4 is out of range"),
        ({"resume": True}, r"stages.b.resume belongs to the whole run"),
        ({"init_from": "RUN"}, r"stages.b.init_from='RUN' is not one of last, best"),
        ({"dataset": {"root": "${oc.env:HOME}"}}, r"is not a value"),
        (5, r"stages.b=5 is not a table of settings"),
    ],
)
def test_what_a_stage_cannot_be_is_said_before_the_first_one_begins(
    plain: schema.TrainConfig, second: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        check_stages(replace(plain, stages={"a": {}, "b": second}))
    assert len(str(raised.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"a b": {}}, r"'a b' is not a name"),
        ({"../up": {}}, r"is not a name"),
        ({3: {}}, r"3 is not a name"),
        ({f"a{number}": {} for number in range(51)}, r"holds too many values"),
    ],
)
def test_a_name_of_a_stage_is_one_of_a_folder(
    plain: schema.TrainConfig, stages: dict[Any, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check_stages(replace(plain, stages=stages))


def test_a_length_of_the_command_line_replaces_one_of_the_other_kind(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    words = TWO.replace("optimizer: {lr: 0.001}", "trainer: {epochs: 5}")
    (tmp_path / "recipe" / "two.yaml").write_text(words, encoding="utf-8")
    lengths = [
        [(one.schedule.max_iters, one.trainer.epochs) for one in configs(tmp_path, *overrides)]
        for overrides in ([], ["schedule.max_iters=3"], ["trainer.epochs=2"])
    ]
    assert lengths == [[(550, None), (550, 5.0)], [(3, None), (3, None)], [(550, 2.0), (550, 2.0)]]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("[]", "stage b: loss.parts=.* is empty"),
        ("[{name: dise}]", "stage b: loss.parts.0..name='dise'.* Did you mean dice?"),
        ("[{name: ohem, share: 3}]", "stage b: loss.parts.0..share=3.0 is out of range"),
        ("[{name: ohem, keep_priors: true}]", "stage b: loss.parts.0..keep_priors=true, but there are no"),
    ],
)
def test_the_parts_of_a_loss_are_checked_in_every_stage(compose: Compose, parts: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose("loss=composite", f"stages={{a: {{}}, b: {{loss: {{parts: {parts}}}}}}}")


def test_a_list_of_the_wrong_type_is_shown_whole(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"loss.parts=\[cross_entropy, lovasz\] must be a list"):
        compose("loss=composite", "loss.parts=[cross_entropy, lovasz]")


def test_unfolding_counts_in_the_first_stage_and_a_search_where_no_stage_sets_its_learning_rate(
    plain: schema.TrainConfig,
) -> None:
    trainer = replace(plain.trainer, unfold_norm=8, find_lr=True)
    tables: dict[str, Any] = {
        "a": {},
        "b": {},
        "c": {"optimizer": {"lr": 0.1}},
        "d": {"optimizer": {"lr": 0.1}},
    }
    tables["d"]["trainer"] = {"find_lr": True}
    config = replace(plain, trainer=trainer, init_from="RUN", stages=tables)
    check_stages(config)
    found = stages_of(config)
    assert [one.config.trainer.unfold_norm for one in found] == [8, None, None, None]
    assert [one.config.trainer.find_lr for one in found] == [True, True, False, True]
    assert found[2].differing == {
        "optimizer.lr": 0.1,
        "trainer.unfold_norm": None,
        "trainer.find_lr": False,
    }


def test_a_later_stage_unfolds_only_what_the_one_before_kept(plain: schema.TrainConfig) -> None:
    second = {"trainer": {"unfold_norm": 8}}
    check_stages(replace(plain, stages={"a": {"model": {"norm": "frozen"}}, "b": second}))
    with pytest.raises(
        ConfigError, match=r"stage b: trainer.unfold_norm=8, but stage a trains the batch nor"
    ):
        check_stages(replace(plain, stages={"a": {}, "b": second}))


def test_a_part_of_a_loss_in_a_later_stage_is_checked_before_the_first() -> None:
    stages = "stages={a: {}, b: {loss: {parts: [{name: nope}]}}}"
    with pytest.raises(ConfigError, match=r"stage b: loss.parts\[0\].name='nope': loss=nope is not known"):
        training_config(["loss=composite", stages])
