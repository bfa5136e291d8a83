"""Every YAML composes and builds; found by glob, so a new file is tested without a line here."""

import re
from pathlib import Path

import hydra
import pytest
import torch
import yaml

from deeplabx import config as schema
from deeplabx.build import model_of, own_settings
from deeplabx.loss import build_loss
from deeplabx.optimizer import build_optimizer
from deeplabx.schedule import build_schedule
from tests.conftest import Compose

CONF = schema.conf_dir()
OPTIONS = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]


def overrides_of(group: str, option: str) -> list[str]:
    if (group, option) == ("backbone", "timm"):
        return ["backbone=timm", "backbone.model=resnet18d"]
    return [f"+recipe={option}"] if group == "recipe" else [f"{group}={option}"]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids="/".join)
def test_every_option_composes_and_builds(compose: Compose, group: str, option: str) -> None:
    if (group, option) == ("backbone", "timm"):
        pytest.importorskip("timm")
    config = compose(*overrides_of(group, option))
    with torch.device("meta"):
        model = model_of(config, num_classes=3)
    optimizer = build_optimizer(config.optimizer.name, model, **own_settings(config.optimizer))
    assert optimizer.param_groups
    assert 0 < build_schedule(config.schedule.name, **own_settings(config.schedule))(0) <= 1
    build_loss(config.loss.name)


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] != "recipe"], ids="/".join)
def test_an_option_is_named_as_its_file(group: str, option: str) -> None:
    assert yaml.safe_load((CONF / group / f"{option}.yaml").read_text())["name"] == option


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_a_yaml_says_in_its_first_line_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("option", schema.options("recipe"))
def test_a_recipe_says_how_to_run_it_what_to_expect_and_whose_number_it_is(option: str) -> None:
    package, command, expected, *_ = (CONF / "recipe" / f"{option}.yaml").read_text().splitlines()
    assert package == "# @package _global_"
    assert command.startswith(f"# deeplabx train +recipe={option} ")
    assert re.match(
        r"# Expected: val mIoU [\d.]+ .*(the paper's number|the released model's number|measured by us)",
        expected,
    )


def test_a_recipe_beats_the_data_set_and_what_is_typed_beats_the_recipe(compose: Compose) -> None:
    config = compose("+recipe=voc_deeplabv3plus_xception65")
    assert (config.dataset.train_split, config.optimizer.weight_decay) == ("train_aug", 4e-5)
    assert (
        config.augment.crop_size,
        config.trainer.batch_size,
        config.schedule.max_iters,
        config.optimizer.lr,
    ) == (513, 16, 30000, 0.007)
    typed = compose(
        "+recipe=voc_deeplabv3plus_xception65",
        "dataset.train_split=train",
        "optimizer.weight_decay=1e-3",
        "schedule.max_iters=10",
    )
    assert (typed.dataset.train_split, typed.optimizer.weight_decay, typed.schedule.max_iters) == (
        "train",
        1e-3,
        10,
    )


@pytest.mark.parametrize("command", schema.COMMANDS)
def test_every_command_composes(command: str) -> None:
    schema.register_schemas(command)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(command, ["dataset=voc"] if command == "data_fake" else [])
    assert set(schema.COMMANDS[command].__dataclass_fields__) == set(config)  # type: ignore[attr-defined]


def test_conf_holds_yaml_only() -> None:
    assert {path.suffix for path in CONF.rglob("*") if path.is_file()} == {".yaml"}
