from pathlib import Path

import numpy as np
import pytest
import torch

import deeplabx
from deeplabx.errors import ConfigError
from deeplabx.run.description import stored_model
from tests.conftest import Ended, python


def test_importing_deeplabx_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, deeplabx; print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path) == Ended(0, "False\n", "")


def test_build_model_takes_names_and_gives_logits() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=21, output_stride=8).eval()
    assert model(torch.zeros(1, 3, 41, 57)).shape == (1, 21, 41, 57)


def test_compose_gives_the_config_of_a_command_line() -> None:
    config = deeplabx.compose(["backbone=resnet50", "optimizer.lr=0.3"])
    assert (config.backbone.name, config.optimizer.lr) == ("resnet50", 0.3)
    with pytest.raises(ConfigError, match="optimizer.lr=-1.0 is out of range: it must be above 0"):
        deeplabx.compose(["optimizer.lr=-1"])


def test_load_gives_a_model_that_predicts_as_the_command_does(tiny_run: Path) -> None:
    model = deeplabx.load(tiny_run)
    assert not model.training
    assert model.classes[:2] == ["background", "disc"]
    assert len(model.palette) == 7
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    with torch.inference_mode():
        ids = model(model.preprocess(image)).argmax(1)[0]
    assert torch.equal(ids, stored_model(str(tiny_run)).predictor().ids(image))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        deeplabx.nothing  # noqa: B018
