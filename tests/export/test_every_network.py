"""Every backbone under DeepLabv3+ and every model once, as ONNX, against the model. About a minute each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import deeplabx
from deeplabx.export import parity
from deeplabx.export.deployed import deployed, traced
from deeplabx.export.metadata import Metadata
from deeplabx.export.onnx_file import OnnxNetwork, onnx_model, write_onnx
from deeplabx.registry import OPTIONS

CLASSES = 5
MODELS: dict[str, list[dict[str, Any]]] = {
    "deeplabv1": [{}],
    "deeplabv2": [{"scales": [1.0, 0.75, 0.5]}, {"scales": [1.0, 0.5], "align_corners": False}],
    "deeplabv3": [{"image_pooling": 769}, {"align_corners": False}],
    "deeplabv3plus": [{"image_pooling": 64}],
    "lraspp": [{"pooling": 769, "pooling_stride": [4, 5]}, {}],
}


def refuse_other(name: str, *, backbone: str, path: Path, **settings: Any) -> None:
    torch.manual_seed(0)
    model = deeplabx.build_model(name, backbone=backbone, num_classes=CLASSES, **settings).eval()
    normalization = model.backbone.normalization
    network = deployed(model, normalization, preprocess=True, ids=False, num_classes=CLASSES)
    metadata = Metadata(["a"] * CLASSES, [(0, 0, 0)] * CLASSES, 255, normalization, True, "logits", {}, {})
    write_onnx(onnx_model(traced(network)), path, metadata)
    found = [
        parity.compared(
            what,
            images,
            model=model,
            normalization=normalization,
            network=OnnxNetwork(path),
            preprocess=True,
        )
        for what, images in parity.natural_images(model.backbone.output_stride, 3)
    ]
    assert len(found) == 5
    parity.refuse_different(found, file=path.name)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    yield tmp_path / "model.onnx"
    (tmp_path / "model.onnx").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in OPTIONS["backbone"] if name != "timm"])
def test_every_backbone_under_deeplabv3plus(backbone: str, path: Path) -> None:
    refuse_other("deeplabv3plus", backbone=backbone, path=path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"), [(name, one) for name in MODELS for one in MODELS[name]], ids=str
)
def test_every_model(model: str, settings: dict[str, Any], path: Path) -> None:
    refuse_other(model, backbone="mobilenetv2", path=path, **settings)


def test_every_model_is_among_them() -> None:
    assert set(MODELS) == set(OPTIONS["model"])
