"""Every YAML composes and builds; found by glob, so a new file is tested without a line here."""

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
    return [f"+recipe={option}"] if group == "recipe" else [f"{group}={option}"]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids="/".join)
def test_every_option_composes_and_builds(compose: Compose, group: str, option: str) -> None:
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


@pytest.mark.parametrize("command", schema.COMMANDS)
def test_every_command_composes(command: str) -> None:
    schema.register_schemas(command)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(command)
    assert set(schema.COMMANDS[command].__dataclass_fields__) == set(config)  # type: ignore[attr-defined]


def test_conf_holds_yaml_only() -> None:
    assert {path.suffix for path in CONF.rglob("*") if path.is_file()} == {".yaml"}
