"""Every recipe says what to expect, composes, builds and takes a step; found by glob, so a new file is tested
without a line here.
"""

import functools
import math
import re
from collections.abc import Iterable
from contextlib import closing
from math import ceil
from typing import Any

import pytest
import torch
from torch import nn

from deeplabx.command.compose import checked
from deeplabx.command.list import expected_words
from deeplabx.command.yaml_files import choices, conf_dir, contents
from deeplabx.model.contract import DeepLab
from deeplabx.run.build import (
    batches_of,
    built,
    dataset_of,
    freeze,
    loss_of,
    model_of,
    optimizer_of,
    schedule_of,
    state_of,
)
from deeplabx.run.class_weights import with_class_weights
from tests.conftest import Root, compose_plain
from tests.recipes import recipe_config

RECIPES = choices("recipe")
TIMM = [name for name in RECIPES if "model" in contents(f"recipe/{name}").get("backbone", {})]
# One of each network of timm's. Building one takes a second: it is tested on an image.
OF_EACH = (
    "voc_deeplabv3plus_convnext_tiny",
    "camvid_deeplabv3plus_mobilenetv4",
    "voc_deeplabv3plus_efficientnetv2_s",
)
# Small networks; SGD and AdamW, with an EMA, with class weights
STEPPED = ("cityscapes_lraspp_mobilenetv3_small", "camvid_deeplabv3plus_mobilenetv2_google")
NUMBER = r"val mIoU [\d.]+( \([\d.]+ with eval\.crf=true\))?"
SOURCE = r"the paper \(\d{4}\.\d{4,5}\)|the released model|from [^;]+, \d+ steps"
NO_NUMBER = (
    "no val number, because the second stage trains on val",
    "no number published for this setting",
    "no measured source was found for this combination",
    "no number of ours or the papers; settings after mmsegmentation",
)
SMALL = [
    "augment.crop_size=33",
    "trainer.batch_size=2",
    "trainer.workers=0",
    "trainer.devices=cpu",
    "trainer.precision=fp32",
    "trainer.freeze_stride=null",
]


@functools.cache
def config_of(recipe: str) -> Any:
    return checked(recipe_config(recipe))


def slow_but_for(recipes: Iterable[str], fast: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in recipes]


def needs_timm(recipe: str) -> None:
    if recipe in TIMM:
        pytest.importorskip("timm")


@pytest.mark.parametrize("name", RECIPES)
def test_its_first_lines_say_how_to_run_it_and_what_to_expect(name: str) -> None:
    text = (conf_dir() / "recipe" / f"{name}.yaml").read_text(encoding="utf-8")
    package, command, expected, *_ = text.splitlines()
    assert package == "# @package _global_"
    assert re.fullmatch(rf"# deeplabx train \+recipe={name} dataset\.root=PATH( \S+=PATH)?", command)
    assert expected == f"# Expected: {expected_words(name)}"
    measured = rf"{NUMBER}; ({SOURCE}); (not )?measured by us"
    assert re.fullmatch(rf"{measured}|({'|'.join(NO_NUMBER)}); not measured by us", expected_words(name))


@pytest.mark.parametrize("name", slow_but_for(RECIPES, [*OF_EACH, *sorted({*RECIPES} - {*TIMM})]))
def test_it_composes_and_builds(name: str) -> None:
    needs_timm(name)
    config = config_of(name)
    assert name.startswith(f"{config.dataset.name}_deeplab") or config.model.name == "lraspp"
    with torch.device("meta"):
        network = model_of(config, num_classes=3, in_channels=3)
        if name in TIMM:
            refuse_other_stride(network.backbone, config.backbone.output_stride)
    assert len(optimizer_of(config, network).param_groups) > 1
    assert 0 < schedule_of(config.schedule)(0) <= 1
    logits, labels = torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 255]]])
    assert 0 < float(loss_of(config.loss)(logits, labels, ignore_index=255)) < math.inf


def refuse_other_stride(backbone: nn.Module, output_stride: int) -> None:
    """Measured, on the meta device: the sides of the features of an image."""
    low_level, *_, high = backbone.eval()(torch.zeros(1, 3, 129, 97))
    assert low_level.shape[2:] == (ceil(129 / 4), ceil(97 / 4))
    assert high.shape[2:] == (ceil(129 / output_stride), ceil(97 / output_stride))


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EACH)
def test_networks_of_timm_have_output_stride_8_too(name: str) -> None:
    needs_timm(name)
    with torch.device("meta"):
        refuse_other_stride(
            built("backbone", "timm", model=config_of(name).backbone.model, output_stride=8), 8
        )


@pytest.mark.parametrize("name", slow_but_for(RECIPES, STEPPED))
def test_hydra_composes_the_same_and_it_takes_a_step(fake_root: Root, name: str) -> None:
    """On a batch of two crops of 33, from random weights; each part of the network changes."""
    needs_timm(name)
    assert compose_plain(f"+recipe={name}") == config_of(name)
    root = fake_root(config_of(name).dataset.name)
    config = compose_plain(f"+recipe={name}", f"dataset.root='{root}'", *SMALL)
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    config, _ = with_class_weights(config, training, None, workers=0)
    model = model_of(config, num_classes=len(training.classes), in_channels=training.channels)
    freeze(config.trainer, model)
    device, normalization = torch.device("cpu"), model.backbone.normalization
    state = state_of(config, model, ignore_index=training.ignore_index, device=device)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with closing(
        batches_of(config, training, normalization, device=device, first_step=0, workers=0)
    ) as batches:
        batch = next(batches)
    assert batch is not None
    state.update(batch.images, batch.labels)
    (report,) = state.reports()
    assert (report.step, report.skipped) == (1, False)
    assert math.isfinite(report.loss)
    assert report.valid > 0
    assert parts_changed(model, before) == {name.partition(".")[0] for name in before}


def parts_changed(model: DeepLab, before: dict[str, torch.Tensor]) -> set[str]:
    return {
        name.partition(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    }
