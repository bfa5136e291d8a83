import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import deeplabx
from deeplabx.run.description import stored_model


def test_importing_deeplabx_imports_no_torch() -> None:
    code = (
        "import sys, deeplabx; assert 'torch' not in sys.modules; deeplabx.build_model; assert 'torch' "
        "in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_build_model_takes_names_and_gives_logits() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=21, output_stride=8).eval()
    assert model(torch.zeros(1, 3, 41, 57)).shape == (1, 21, 41, 57)


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
