"""Every YAML composes and builds; found by glob, so a new file is tested without a line here."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deeplabx.command.compose import composed
from deeplabx.command.table import COMMANDS, Command
from deeplabx.command.yaml_files import choices, conf_dir
from deeplabx.registry import GROUPS, option
from deeplabx.run.build import augment_of, loss_of, model_of, optimizer_of, schedule_of
from tests.conftest import Compose

CONF = conf_dir()


def options(*groups: str) -> list[object]:
    """Parameters (group, name): each YAML of these groups."""
    paths = [path for group in groups for path in sorted((CONF / group).glob("*.yaml"))]
    return [pytest.param(path.parent.name, path.stem, id=f"{path.parent.name}/{path.stem}") for path in paths]


def overrides_of(group: str, name: str) -> list[str]:
    if (group, name) == ("backbone", "timm"):
        return ["backbone=timm", "backbone.model=resnet18d"]
    if (group, name) == ("optimizer", "torch"):
        return ["optimizer=torch", "optimizer.algorithm=NAdam"]
    return [f"{group}={name}"]


@pytest.mark.parametrize(("group", "name"), options(*GROUPS))
def test_every_option_composes_and_builds(compose: Compose, group: str, name: str) -> None:
    if (group, name) == ("backbone", "timm"):
        pytest.importorskip("timm")
    config = compose(*overrides_of(group, name))
    with torch.device("meta"):
        model = model_of(config, num_classes=3, in_channels=3)
    assert len(optimizer_of(config, model).param_groups) > 1
    assert 0 < schedule_of(config.schedule)(0) <= 1
    logits, labels = torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 255]]])
    assert 0 < float(loss_of(config.loss)(logits, labels, ignore_index=255)) < math.inf
    size = config.augment.crop_size
    augment = augment_of(config.augment, pad_pixel=(1, 2, 3), ignore_index=255)
    rng = np.random.default_rng(0)
    image, label = augment(np.zeros((9, 12, 3), np.uint8), np.zeros((9, 12), np.uint8), rng)
    assert (image.shape, label.shape) == ((size, size, 3), (size, size))


@pytest.mark.parametrize(("group", "name"), options(*GROUPS))
def test_a_yaml_says_what_its_option_is_registered_as(group: str, name: str) -> None:
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == f"# {option(group, name).words}"
    assert lines[2] == f"  - /schema/{group}/{name}@_here_"


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_the_project_has_a_yaml(group: str) -> None:
    assert choices(group) == sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize(("group", "name"), options(*GROUPS))
def test_an_option_is_named_as_its_file(group: str, name: str) -> None:
    assert yaml.safe_load((CONF / group / f"{name}.yaml").read_text())["name"] == name


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_a_yaml_says_in_its_first_line_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")


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


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.schema], ids=lambda command: command.key)
def test_every_command_composes(command: Command) -> None:
    config = composed(command.words, command.defaults)
    assert set(command.settings.__dataclass_fields__) == set(config)  # type: ignore[attr-defined]


def test_conf_holds_yaml_only() -> None:
    assert {path.suffix for path in CONF.rglob("*") if path.is_file()} == {".yaml"}
