"""What an evaluation has cost: as it ran, and as it is counted for an exported graph."""

import json
from pathlib import Path

import pytest
import torch

from deeplabx.errors import ConfigError
from deeplabx.model.size import convolutions, parameter_count
from deeplabx.run import evaluation
from deeplabx.run.build import build_model
from deeplabx.run.evaluation import network_cost
from tests.conftest import compose_plain


def test_a_run_notes_the_cost_of_the_network_that_it_evaluated(tiny_run: Path) -> None:
    cost = json.loads((tiny_run / "cost.json").read_text(encoding="utf-8"))
    model = build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=7).eval()
    ran = convolutions(model, height=cost["height"], width=cost["width"])
    assert cost["parameters"] == parameter_count(model)
    assert cost["multiply_adds"] == sum(one.multiply_adds for one in ran)


def test_the_cost_of_an_exported_network_is_that_of_the_network() -> None:
    model = build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=7).eval()
    ran = convolutions(model, height=65, width=97)
    found = network_cost(compose_plain(), classes=7, channels=3, height=65, width=97)
    assert found == {
        "parameters": parameter_count(model),
        "multiply_adds": sum(one.multiply_adds for one in ran),
    }


def test_what_cannot_be_counted_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of the network may be absent: the exported graph does not need it."""

    def absent(*_: object, **__: object) -> torch.nn.Module:
        raise ConfigError("this needs the package timm, which is not installed")

    monkeypatch.setattr(evaluation, "model_of", absent)
    found = network_cost(compose_plain(), classes=7, channels=3, height=65, width=97)
    assert found == {"parameters": None, "multiply_adds": None}
