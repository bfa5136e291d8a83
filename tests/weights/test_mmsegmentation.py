"""mmsegmentation's files, held against its own networks: names, shapes and logits of tests/model/data,
numbers of parameters counted there.

Those files are of its configs deeplabv3_r50-d8 and deeplabv3plus_r50-d8, the first with 64 channels in the
head in place of 512, and also hold what the auxiliary head gives.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.backbone.pretrained import read_tensors
from deeplabx.errors import CheckpointError
from deeplabx.model.contract import DeepLab
from deeplabx.model.resize import resize
from deeplabx.run.build import meta_network, model_of
from deeplabx.weights.contract import Imported
from tests.conftest import Compose
from tests.model.peers import DATA, EVERY, fill, golden, image
from tests.weights.importers import mmsegmentation_classification, mmsegmentation_deeplab

SAME = 1e-9  # relative, in float64
V3, V3PLUS = "mmsegmentation_deeplabv3_resnet50", "mmsegmentation_deeplabv3plus_resnet50"
Shapes = dict[str, list[int]]


def restored(found: Imported) -> DeepLab:
    network = meta_network(found.settings, num_classes=found.tensors["classify.weight"].shape[0])
    network.load_state_dict(found.tensors, assign=True)
    assert isinstance(network, DeepLab)
    return network.eval()


def auxiliary_logits(name: str) -> Tensor:
    return torch.tensor(
        json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))["auxiliary"], dtype=torch.float64
    )


def difference(ours: Tensor, theirs: Tensor) -> float:
    ours = ours[:, :, ::EVERY, ::EVERY]
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.slow
def test_logits_of_a_checkpoint_of_v3plus_are_mmsegmentations(tmp_path: Path) -> None:
    file = tmp_path / "deeplabv3plus_r50-d8.pth"
    tensors = fill(golden(V3PLUS).shapes)
    torch.save(
        {"meta": {"CLASSES": ("road", "sidewalk"), "PALETTE": [[128, 64, 128]]}, "state_dict": tensors}, file
    )
    assert_same_logits(read_tensors(file), V3PLUS)


def test_logits_of_v3_are_mmsegmentations() -> None:
    assert_same_logits(fill(golden(V3).shapes), V3)


def assert_same_logits(foreign: dict[str, Tensor], name: str) -> None:
    expected = golden(name)
    found = mmsegmentation_deeplab(foreign)
    assert found is not None
    assert (found.normalization, found.left_out) == (IMAGENET, {})
    network = restored(found)
    with torch.no_grad():
        images = image(*expected.size)
        assert difference(network(images), expected.logits) < SAME
        assert network.auxiliary is not None
        auxiliary = network.auxiliary(network.backbone(images).auxiliary)
        assert (
            difference(resize(auxiliary, expected.size, align_corners=False), auxiliary_logits(name)) < SAME
        )


# --- names and shapes only ----------------------------------------------------------------------------------


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def on_resnet101(shapes: Shapes) -> Shapes:
    last = {name: shape for name, shape in shapes.items() if "layer3.5." in name}
    return shapes | {
        name.replace("layer3.5.", f"layer3.{unit}."): shape
        for unit in range(6, 23)
        for name, shape in last.items()
    }


def of_512_channels(shapes: Shapes) -> Shapes:
    """DeepLabv3 as published, from the one of 64."""
    wide = {64: 512, 5 * 64: 5 * 512}
    return {
        name: [wide.get(side, side) for side in shape] if name.startswith("decode_head.") else shape
        for name, shape in shapes.items()
    }


def of_plain_stem(shapes: Shapes) -> Shapes:
    bn1 = {name.replace("stem.7.", "bn1."): shape for name, shape in shapes.items() if "stem.7." in name}
    return (
        {name: shape for name, shape in shapes.items() if ".stem." not in name}
        | bn1
        | {"backbone.conv1.weight": [64, 3, 7, 7]}
    )


def of_classes(shapes: Shapes, number: int) -> Shapes:
    return {name: [number, *shape[1:]] if ".conv_seg." in name else shape for name, shape in shapes.items()}


def imported(shapes: Shapes) -> Imported:
    found = mmsegmentation_deeplab(on_meta(shapes))
    assert found is not None
    return found


# numbers of parameters in mmsegmentation 1.2.2, the auxiliary head with them
@pytest.mark.parametrize(
    ("shapes", "model", "backbone", "parameters"),
    [
        (golden(V3).shapes, "deeplabv3", "resnet50_v1c", 29_879_366),
        (of_512_channels(golden(V3).shapes), "deeplabv3", "resnet50_v1c", 68_113_030),
        (golden(V3PLUS).shapes, "deeplabv3plus", "resnet50_v1c", 43_589_878),
        (
            of_classes(on_resnet101(of_512_channels(golden(V3).shapes)), 21),
            "deeplabv3",
            "resnet101_v1c",
            87_106_698,
        ),
        (of_classes(on_resnet101(golden(V3PLUS).shapes), 150), "deeplabv3plus", "resnet101_v1c", 62_682_876),
        (of_plain_stem(of_512_channels(golden(V3).shapes)), "deeplabv3", "resnet50", 68_093_798),
    ],
)
def test_the_network_is_told_from_names_and_shapes(
    compose: Compose, shapes: Shapes, model: str, backbone: str, parameters: int
) -> None:
    found = imported(shapes)
    assert (found.settings["model"], found.settings["backbone"]) == (model, backbone)
    typed = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in found.settings.items()
    ]
    with torch.device("meta"):
        number = shapes["decode_head.conv_seg.weight"][0]
        network = model_of(compose(*typed), num_classes=number, in_channels=3)
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == {
        name: tensor.shape for name, tensor in found.tensors.items()
    }
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_image_pooling_comes_first_there_and_last_here() -> None:
    shapes = golden(V3PLUS).shapes
    tensors = on_meta(shapes)
    tensors["decode_head.bottleneck.conv.weight"] = (
        torch.arange(5.0).repeat_interleave(512).reshape(1, -1, 1, 1).expand(512, -1, 3, 3)
    )
    found = mmsegmentation_deeplab(tensors)
    assert found is not None
    assert found.tensors["aspp.project.0.weight"][7, ::512, 1, 1].tolist() == [1, 2, 3, 4, 0]
    assert (
        str(found.origins["aspp.project.0.weight"])
        == "decode_head.bottleneck.conv.weight (image pooling last)"
    )


def test_a_file_without_auxiliary_head_is_one_of_a_network_without() -> None:
    found = imported(
        {name: shape for name, shape in golden(V3).shapes.items() if not name.startswith("auxiliary_head.")}
    )
    assert "model.auxiliary_weight" not in found.settings


def test_an_auxiliary_head_of_another_form_is_left_out() -> None:
    found = imported(golden(V3).shapes | {"auxiliary_head.conv_cat.conv.weight": [256, 1280, 3, 3]})
    assert "model.auxiliary_weight" not in found.settings
    assert set(found.left_out.values()) == {"an auxiliary head that differs from ours"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"decode_head.c1_bottleneck.bn.bias": None},
            r"DeepLabv3\+ on resnet50_v1c, but lacks decode_head.c1_bottleneck.bn.bias",
        ),
        (
            {"decode_head.c1_bottleneck.conv.weight": [12, 64, 1, 1]},
            r"c1_bottleneck.conv.weight is \[12, 64, 1, 1\] and not \[48, 256, 1, 1\]",
        ),
        (
            {"decode_head.aspp_modules.4.conv.weight": [512, 2048, 3, 3]},
            "has no decode_head.aspp_modules.4.conv.weight",
        ),
        (
            {"decode_head.conv_seg.weight": [1, 512, 1, 1]},
            "with a single output per pixel, compared with a threshold",
        ),
        (
            {"decode_head.conv_seg.weight": []},
            r"decode_head.conv_seg.weight is \[\], not the kernel of a convolution",
        ),
        (
            {"backbone.layer1.0.conv2.weight": [128, 4, 3, 3]},
            "on a backbone that cannot be imported",
        ),  # ResNeXt
        (
            {"backbone.layer1.0.conv3.weight": None},
            "on a backbone that cannot be imported",
        ),  # as of ResNet-18 and -34
    ],
)
def test_another_network_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    shapes = {name: shape for name, shape in (golden(V3PLUS).shapes | change).items() if shape is not None}
    with pytest.raises(CheckpointError, match=words):
        mmsegmentation_deeplab(on_meta(shapes))


def test_other_names_are_not_its_own() -> None:
    shapes = golden(V3).shapes
    # FastFCN, which has the same head.
    assert mmsegmentation_deeplab(on_meta(shapes | {"neck.conv.weight": [1]})) is None
    assert (
        mmsegmentation_deeplab(
            on_meta({name.removeprefix("decode_"): shape for name, shape in shapes.items()})
        )
        is None
    )
    assert mmsegmentation_classification(on_meta(shapes)) is None
    assert mmsegmentation_classification(on_meta({"stem.0.weight": [40, 3, 4, 4]})) is None  # ConvNeXt


# --- classification networks --------------------------------------------------------------------------------


def of_backbone(shapes: Shapes) -> Shapes:
    return {
        name.removeprefix("backbone."): shape
        for name, shape in shapes.items()
        if name.startswith("backbone.")
    }


@pytest.mark.parametrize(
    ("shapes", "backbone", "parameters"),
    [
        (golden(V3).shapes, "resnet50_v1c", 23_527_264),
        (on_resnet101(golden(V3).shapes), "resnet101_v1c", 42_519_392),
    ],
)
def test_pretrained_backbones(shapes: Shapes, backbone: str, parameters: int) -> None:
    theirs = {
        name: shape for name, shape in of_backbone(shapes).items() if not name.endswith("num_batches_tracked")
    }
    found = mmsegmentation_classification(on_meta(theirs | {"fc.weight": [1000, 2048], "fc.bias": [1000]}))
    assert found is not None
    assert (found.settings, found.normalization, found.left_out) == ({"backbone": backbone}, IMAGENET, {})
    assert {
        found.origins[name].theirs for name in ("conv1.0.weight", "conv1.6.weight", "bn1.bias", "fc.bias")
    } == {
        "stem.0.weight",
        "stem.6.weight",
        "stem.7.bias",
        "fc.bias",
    }
    network = meta_network(found.settings)
    assert set(found.tensors) == {*network.state_dict(), "fc.weight", "fc.bias"}
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_pretrained_backbone_of_resnet_d_is_refused() -> None:
    shapes = of_backbone(golden(V3).shapes)
    for name in [name for name in shapes if ".downsample.0." in name]:  # an average pooling there
        shapes[name.replace(".0.weight", ".1.weight")] = shapes.pop(name)
    with pytest.raises(
        CheckpointError, match=r"mmsegmentation's resnet50_v1c, but lacks layer1.0.downsample.0.weight"
    ):
        mmsegmentation_classification(on_meta(shapes))
