"""VainF's files, held against his networks: names, shapes and logits of tests/model/data."""

from pathlib import Path

import pytest
import torch

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.errors import CheckpointError
from tests.model.peers import golden
from tests.weights.foreign import (
    SAME,
    assert_a_cut_file_is_refused,
    assert_another_shape_is_refused,
    deeper,
    difference,
    from_disk,
    imported,
    network,
    without_values,
)
from tests.weights.importers import vainf_deeplab

V3, V3PLUS = "vainf_deeplabv3_resnet50", "vainf_deeplabv3plus_resnet50"


@pytest.mark.parametrize("name", [V3PLUS, pytest.param(V3, marks=pytest.mark.slow)])
def test_logits_are_vainfs(name: str) -> None:
    assert difference(vainf_deeplab, name) < SAME


@pytest.mark.parametrize(("name", "model"), [(V3, "deeplabv3"), (V3PLUS, "deeplabv3plus")])
@pytest.mark.parametrize(("backbone", "counts"), [("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))])
def test_settings(name: str, model: str, backbone: str, counts: tuple[int, ...]) -> None:
    found = imported(
        vainf_deeplab, without_values(deeper(golden(name).shapes, counts, layer="backbone.layer{}."))
    )
    assert (
        found.settings["model"],
        found.settings["backbone"],
        found.settings["backbone.output_stride"],
    ) == (model, backbone, 16)
    assert found.normalization == IMAGENET
    assert found.left_out == {}
    assert "backbone.output_stride=8" in found.note
    network(found)


def test_his_training_files_are_read(tmp_path: Path) -> None:
    few = {"classifier.aspp.convs.0.0.weight": torch.ones(1)}
    assert list(from_disk(tmp_path, few, under="model_state")) == list(few)


@pytest.mark.parametrize("name", [V3, V3PLUS])
def test_a_cut_or_changed_file_is_refused_by_name(name: str) -> None:
    shapes = golden(name).shapes
    assert_a_cut_file_is_refused(vainf_deeplab, shapes)
    assert_another_shape_is_refused(vainf_deeplab, shapes, "backbone.layer3.1.conv2.weight")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("backbone.low_level_features.0.0.weight", "MobileNetV2, which pads before the 1x1"),
        ("backbone.high_level_features.4.conv.0.0.weight", "MobileNetV2, which pads before the 1x1"),
        ("backbone.block1.rep.0.conv1.weight", "Chollet's Xception, which has max-pooling"),
        ("backbone.stage2.0.branches.0.0.conv1.weight", "HRNet"),
        ("classifier.aspp.convs.1.0.body.0.weight", "--separable_conv has no norm"),
        ("backbone.layer1.0.se.weight", "has no backbone.layer1.0.se.weight"),
    ],
)
@pytest.mark.parametrize("name", [V3, V3PLUS])
def test_a_variant_that_is_another_network_is_refused_with_what_makes_it_so(
    name: str, other: str, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        vainf_deeplab(without_values({**golden(name).shapes, other: [1]}))


def test_wide_resnet_is_refused() -> None:
    with pytest.raises(CheckpointError, match="Wide ResNet"):
        vainf_deeplab(
            without_values({**golden(V3).shapes, "backbone.layer1.0.conv2.weight": [128, 128, 3, 3]})
        )
