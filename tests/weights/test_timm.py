"""timm's files, held against its networks: names, shapes and features of tests/model/data."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from deeplabx.backbone.normalization import IMAGENET, MINUS_ONE_TO_ONE
from deeplabx.run.build import meta_network
from tests.model.peers import fill, golden, image
from tests.weights.foreign import (
    ROUNDED,
    Shapes,
    assert_a_cut_file_is_refused,
    assert_another_shape_is_refused,
    backbone,
    deeper,
    from_disk,
    imported,
    linear,
    norm,
    relative,
    renumbered,
    without_values,
)
from tests.weights.importers import timm_classification

XCEPTION65 = "timm_xception65_features"


def deep_stem(widths: tuple[int, int, int], *, blocks: tuple[int, ...] = (3, 4, 6, 3)) -> Shapes:
    """Of resnet50s, resnet50c and their like: torchvision's names but for the stem."""
    first, second, third = widths
    under_deeplab = golden("torchvision_deeplabv3_resnet50").shapes
    shapes = {
        name.removeprefix("backbone."): shape
        for name, shape in under_deeplab.items()
        if name.startswith("backbone.layer")
    }
    shapes |= {
        "layer1.0.conv1.weight": [64, third, 1, 1],
        "layer1.0.downsample.0.weight": [256, third, 1, 1],
        **norm("bn1", third),
    }
    shapes |= {
        "conv1.0.weight": [first, 3, 3, 3],
        **norm("conv1.1", first),
        "conv1.3.weight": [second, first, 3, 3],
        **norm("conv1.4", second),
    }
    return {**deeper(shapes, blocks), "conv1.6.weight": [third, second, 3, 3], **linear("fc", 2048, 1000)}


def xception(name: str) -> Shapes:
    shapes = golden(XCEPTION65).shapes
    if name == "xception41":  # eight units fewer in the middle flow
        shapes = renumbered(
            shapes, r"blocks\.(\d+)\.", {**{unit: unit for unit in range(11)}, 19: 11, 20: 12}
        )
    if name == "xception71":
        shapes = {
            name: list(tensor.shape) for name, tensor in meta_network({"backbone": name}).state_dict().items()
        }
    return {**shapes, **linear("head.fc", 2048, 1000)}


def lite0() -> Shapes:
    shapes = golden("timm_tf_efficientnet_lite0_features").shapes
    return {
        **shapes,
        "conv_head.weight": [1280, 320, 1, 1],
        **norm("bn2", 1280),
        **linear("classifier", 1280, 1000),
    }


TABLES: dict[str, Callable[[], Shapes]] = {
    "resnet50_beta": partial(deep_stem, (64, 64, 128)),
    "resnet101_beta": partial(deep_stem, (64, 64, 128), blocks=(3, 4, 23, 3)),
    "resnet50_v1c": partial(deep_stem, (32, 32, 64)),
    "resnet101_v1c": partial(deep_stem, (32, 32, 64), blocks=(3, 4, 23, 3)),
    **{name: partial(xception, name) for name in ("xception41", "xception65", "xception71")},
    "efficientnet_lite0": lite0,
}

LARGE = ("resnet101_beta", "resnet101_v1c", "xception71")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in TABLES]
)
def test_a_backbone_is_known_and_filled(name: str) -> None:
    found = imported(timm_classification, without_values(TABLES[name]()))
    assert found.settings == {"backbone": name}
    assert found.normalization == (IMAGENET if name.startswith("resnet") else MINUS_ONE_TO_ONE)
    assert found.left_out == {}
    backbone(found)


@pytest.mark.parametrize(
    ("name", "every", "peer"),
    [
        ("efficientnet_lite0", 16, "timm_tf_efficientnet_lite0_features"),
        pytest.param("xception65", 64, XCEPTION65, marks=pytest.mark.slow),
    ],
)
def test_features_are_timms(tmp_path: Path, name: str, every: int, peer: str) -> None:
    expected = golden(peer)
    found = imported(timm_classification, from_disk(tmp_path, fill(TABLES[name]())))
    with torch.no_grad():
        high = backbone(found, output_stride=16)(image(*expected.size)).high
    assert relative(high[:, ::every], expected.logits) < ROUNDED


@pytest.mark.parametrize("name", ["resnet50_beta", "xception41", "efficientnet_lite0"])
def test_a_cut_or_changed_network_is_refused_by_name(name: str) -> None:
    shapes = TABLES[name]()
    known_by = [
        key for key in shapes if key in ("conv1.0.weight", "fc.weight", "head.fc.weight", "classifier.weight")
    ]
    assert_a_cut_file_is_refused(timm_classification, shapes, but=known_by)
    assert_another_shape_is_refused(
        timm_classification, shapes, next(key for key in shapes if key.startswith(("layer4", "blocks.3")))
    )


@pytest.mark.parametrize(
    "shapes",
    [
        deep_stem((24, 32, 64)),  # resnet50t
        {**deep_stem((32, 32, 64)), "layer2.0.downsample.2.weight": [512]},  # resnet50d
        {**deep_stem((64, 64, 128)), "layer1.0.se.fc1.weight": [16, 256, 1, 1]},
        {**xception("xception65"), "blocks.3.norm.weight": [728]},
        {**lite0(), "blocks.0.0.se.conv_reduce.weight": [8, 32, 1, 1]},
        linear("head.fc", 2048, 1000),
    ],
)
def test_other_networks_are_not_taken(shapes: Shapes) -> None:
    assert timm_classification(without_values(shapes)) is None


def test_the_beta_networks_say_that_their_features_differ() -> None:
    assert (
        "the features differ from timm's"
        in imported(timm_classification, without_values(TABLES["resnet50_beta"]())).note
    )
    assert imported(timm_classification, without_values(TABLES["resnet50_v1c"]())).note == ""
