"""kazuto1011's files, held against his networks: names, shapes and logits of tests/model/data."""

import pytest
import torch

from deeplabx.backbone.normalization import CAFFE
from deeplabx.errors import CheckpointError
from tests.model.peers import EVERY, fill, golden, image
from tests.weights.foreign import (
    SAME,
    Shapes,
    assert_a_cut_file_is_refused,
    assert_another_shape_is_refused,
    difference,
    imported,
    network,
    relative,
    renumbered,
    without_values,
)
from tests.weights.importers import kazuto1011_deeplab

V1, V2 = "kazuto1011_deeplabv1_resnet101", "kazuto1011_deeplabv2_resnet101_msc"


def one_scale() -> Shapes:
    return {name.removeprefix("base."): shape for name, shape in golden(V2).shapes.items()}


@pytest.mark.slow
def test_logits_without_aspp_are_kazuto1011s() -> None:
    assert difference(kazuto1011_deeplab, V1) < SAME


def test_logits_of_three_scales_are_kazuto1011s() -> None:
    expected = golden(V2)  # of an image in BGR
    model = network(imported(kazuto1011_deeplab, fill(expected.shapes)))
    with torch.no_grad():
        logits = model(image(*expected.size).flip(1))
    assert isinstance(logits, torch.Tensor)
    assert relative(logits[:, :, ::EVERY, ::EVERY], expected.logits) < SAME


@pytest.mark.parametrize(
    ("shapes", "model", "scales"),
    [
        (golden(V1).shapes, "deeplabv3", None),
        (one_scale(), "deeplabv2", [1.0]),
        (golden(V2).shapes, "deeplabv2", [1.0, 0.5, 0.75]),
        (
            renumbered(one_scale(), r"layer4\.block(\d+)\.", {unit: unit for unit in range(1, 7)}),
            "deeplabv2",
            [1.0],
        ),
    ],
    ids=["v1", "v2", "v2_msc", "v2_resnet50"],
)
def test_settings(shapes: Shapes, model: str, scales: list[float] | None) -> None:
    found = imported(kazuto1011_deeplab, without_values(shapes))
    deep = any("layer4.block23" in name for name in shapes)
    assert (found.settings["model"], found.settings["backbone"]) == (
        model,
        "resnet101_caffe" if deep else "resnet50_caffe",
    )
    assert found.settings.get("model.scales") == scales
    assert found.normalization == CAFFE
    assert found.left_out == {}
    network(found)


def test_his_images_are_bgr() -> None:
    table = without_values(one_scale()) | {
        "layer1.conv1.conv.weight": torch.arange(64.0 * 3 * 49).view(64, 3, 7, 7)
    }
    kernel = imported(kazuto1011_deeplab, table).tensors["backbone.conv1.weight"]
    assert torch.equal(kernel[:, 0], table["layer1.conv1.conv.weight"][:, 2])
    assert torch.equal(kernel[:, 1], table["layer1.conv1.conv.weight"][:, 1])


@pytest.mark.parametrize("shapes", [golden(V1).shapes, golden(V2).shapes], ids=["v1", "v2_msc"])
def test_a_cut_or_changed_file_is_refused_by_name(shapes: Shapes) -> None:
    assert_a_cut_file_is_refused(kazuto1011_deeplab, shapes)
    assert_another_shape_is_refused(
        kazuto1011_deeplab, shapes, next(name for name in shapes if "layer3.block2.reduce.conv" in name)
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"layer4.block24.reduce.conv.weight": [256, 1024, 1, 1]}, r"on a ResNet of \[3, 4, 24, 3\] units"),
        ({"layer2.block1.se.weight": [1]}, "has no layer2.block1.se.weight"),
        ({"fc.weight": [1000, 2048]}, "neither DeepLabv2 nor the one called v1"),  # a classification network
    ],
)
def test_other_networks_are_refused(other: Shapes, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        kazuto1011_deeplab(without_values({**golden(V1).shapes, **other}))


def test_deeplabv3_of_three_scales_is_refused() -> None:
    shapes = {name: shape for name, shape in golden(V2).shapes.items() if ".aspp." not in name}
    with pytest.raises(CheckpointError, match="neither DeepLabv2 nor the one called v1 there\nits v3"):
        kazuto1011_deeplab(without_values({**shapes, "base.aspp.stages.c0.conv.weight": [256, 2048, 1, 1]}))
