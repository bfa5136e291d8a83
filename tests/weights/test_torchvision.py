"""torchvision's files, held against its networks: names, shapes, logits and features of tests/model/data."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.errors import CheckpointError
from deeplabx.run.build import meta_network
from tests.model.peers import EVERY, fill, golden, image
from tests.weights.foreign import (
    ROUNDED,
    SAME,
    Shapes,
    assert_a_cut_file_is_refused,
    assert_another_shape_is_refused,
    backbone,
    deeper,
    difference,
    from_disk,
    imported,
    linear,
    network,
    norm,
    relative,
    without_values,
)
from tests.weights.importers import torchvision_classification, torchvision_segmentation

SEGMENTATION = (
    "torchvision_deeplabv3_resnet50",
    "torchvision_deeplabv3_mobilenet_v3_large",
    "torchvision_lraspp_mobilenet_v3_large",
)
RESNET_COUNTS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
VGG16 = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
    17: (256, 512),
}
VGG16 |= dict.fromkeys((19, 21, 24, 26, 28), (512, 512))


def resnet(name: str) -> Shapes:
    """Of a classification network. Those of bottlenecks are named as under DeepLabv3."""
    if name in ("resnet18", "resnet34"):
        return deeper(
            golden("torchvision_resnet18").shapes, (2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3)
        )
    under_deeplab = golden("torchvision_deeplabv3_resnet50").shapes
    shapes = {
        key.removeprefix("backbone."): shape
        for key, shape in under_deeplab.items()
        if key.startswith("backbone.")
    }
    return {**deeper(shapes, RESNET_COUNTS[name]), **linear("fc", 2048, 1000)}


def mobilenet_v3(size: str) -> Shapes:
    last, hidden = {"large": (960, 1280), "small": (576, 1024)}[size]
    return {
        **golden(f"torchvision_mobilenet_v3_{size}_features").shapes,
        **linear("classifier.0", last, hidden),
        **linear("classifier.3", hidden, 1000),
    }


def vgg16() -> Shapes:
    convolutions: Shapes = {}
    for number, (inputs, outputs) in VGG16.items():
        convolutions |= {
            f"features.{number}.weight": [outputs, inputs, 3, 3],
            f"features.{number}.bias": [outputs],
        }
    return {
        **convolutions,
        **linear("classifier.0", 25088, 4096),
        **linear("classifier.3", 4096, 4096),
        **linear("classifier.6", 4096, 1000),
    }


CLASSIFICATION: dict[str, Callable[[], Shapes]] = {
    **{name: partial(resnet, name) for name in ("resnet18", "resnet34", *RESNET_COUNTS)},
    "mobilenetv2": lambda: golden("torchvision_mobilenet_v2").shapes,
    "mobilenetv3_large": partial(mobilenet_v3, "large"),
    "mobilenetv3_small": partial(mobilenet_v3, "small"),
    "vgg16": vgg16,
}


# --- segmentation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEGMENTATION)
def test_logits_are_torchvisions(name: str) -> None:
    assert difference(torchvision_segmentation, name) < (SAME if "resnet" in name else ROUNDED)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_whole_models_settings(name: str) -> None:
    found = imported(torchvision_segmentation, without_values(golden(name).shapes))
    assert found.normalization == IMAGENET
    assert found.settings["model.align_corners"] is False
    assert found.left_out == {}
    assert network(found).backbone.output_stride == (8 if "resnet" in name else 16)


def test_deeplabv3_on_resnet101_without_an_auxiliary_head() -> None:
    shapes = deeper(
        golden("torchvision_deeplabv3_resnet50").shapes, RESNET_COUNTS["resnet101"], layer="backbone.layer{}."
    )
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("aux_classifier.")}
    found = imported(torchvision_segmentation, without_values(shapes))
    assert found.settings["backbone"] == "resnet101"
    assert "model.auxiliary_weight" not in found.settings
    assert network(found).auxiliary is None


def test_the_auxiliary_head_of_mobilenetv3_has_no_place_here() -> None:
    shapes = golden("torchvision_deeplabv3_mobilenet_v3_large").shapes
    auxiliary = {
        "aux_classifier.0.weight": [10, 40, 3, 3],
        **norm("aux_classifier.1", 10),
        "aux_classifier.4.weight": [21, 10, 1, 1],
    }
    found = imported(
        torchvision_segmentation, without_values({**shapes, **auxiliary, "aux_classifier.4.bias": [21]})
    )
    assert set(found.left_out) == {*auxiliary, "aux_classifier.4.bias"}
    assert network(found).auxiliary is None


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_cut_or_changed_model_is_refused_by_name(name: str) -> None:
    shapes = golden(name).shapes
    assert_a_cut_file_is_refused(torchvision_segmentation, shapes)
    conv = next(key for key, shape in shapes.items() if key.startswith("backbone.") and len(shape) == 4)
    assert_another_shape_is_refused(torchvision_segmentation, shapes, conv)
    with pytest.raises(CheckpointError, match="has no backbone.attention.weight\n"):
        torchvision_segmentation(without_values({**shapes, "backbone.attention.weight": [1]}))


def test_deeplabv3_on_resnext_is_refused() -> None:
    shapes = {
        **golden("torchvision_deeplabv3_resnet50").shapes,
        "backbone.layer1.0.conv2.weight": [128, 4, 3, 3],
    }
    with pytest.raises(CheckpointError, match="on an unsupported ResNet: ResNeXt"):
        torchvision_segmentation(without_values(shapes))


def test_a_classifier_that_is_no_convolution_is_refused() -> None:
    shapes = {**golden("torchvision_deeplabv3_resnet50").shapes, "classifier.4.weight": [21, 256]}
    with pytest.raises(
        CheckpointError, match=r"classifier.4.weight is \[21, 256\], not the kernel of a convolution"
    ):
        torchvision_segmentation(without_values(shapes))


# --- classification -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_backbone_is_known_and_filled(name: str) -> None:
    found = imported(torchvision_classification, without_values(CLASSIFICATION[name]()))
    assert found.settings == {"backbone": name}
    assert found.normalization == IMAGENET
    assert all(origin.theirs == ours for ours, origin in found.origins.items())
    backbone(found)


def classification_of_resnet18(tensors: dict[str, Tensor], high: Tensor) -> Tensor:
    return F.linear(high.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])


def classification_of_mobilenetv2(tensors: dict[str, Tensor], high: Tensor) -> Tensor:
    mean, var, weight, bias = (
        tensors[f"features.18.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    last = F.batch_norm(F.conv2d(high, tensors["features.18.0.weight"]), mean, var, weight, bias)
    return F.linear(F.relu6(last).mean((2, 3)), tensors["classifier.1.weight"], tensors["classifier.1.bias"])


@pytest.mark.parametrize(
    ("name", "settings", "classification"),
    [
        ("resnet18", {"multi_grid": []}, classification_of_resnet18),
        ("mobilenet_v2", {}, classification_of_mobilenetv2),
    ],
)
def test_a_classification_is_torchvisions(
    tmp_path: Path,
    name: str,
    settings: dict[str, Any],
    classification: Callable[[dict[str, Tensor], Tensor], Tensor],
) -> None:
    expected = golden(f"torchvision_{name}")
    found = imported(torchvision_classification, from_disk(tmp_path, fill(expected.shapes)))
    with torch.no_grad():
        high = backbone(found, **settings)(image(*expected.size)).high
        assert relative(classification(found.tensors, high), expected.logits) < SAME


@pytest.mark.parametrize("size", ["large", "small"])
def test_features_of_mobilenetv3_are_torchvisions(size: str) -> None:
    expected = golden(f"torchvision_mobilenet_v3_{size}_features")
    found = imported(torchvision_classification, fill(mobilenet_v3(size)))
    with torch.no_grad():
        high = backbone(found)(image(*expected.size)).high
    assert relative(high[:, :, ::EVERY, ::EVERY], expected.logits) < ROUNDED


def test_mobilenetv3_of_a_reduced_tail() -> None:
    settings = {"backbone": "mobilenetv3_large", "backbone.reduced_tail": True}
    shapes = {name: list(tensor.shape) for name, tensor in meta_network(settings).state_dict().items()}
    shapes |= {**linear("classifier.0", 480, 1280), **linear("classifier.3", 1280, 1000)}
    found = imported(torchvision_classification, without_values(shapes))
    assert found.settings == settings
    backbone(found)


def test_the_classifier_of_vgg16_fits_other_pooling() -> None:
    found = imported(torchvision_classification, without_values(vgg16()))
    assert set(found.left_out) == {
        f"classifier.{number}.{part}" for number in (0, 3, 6) for part in ("weight", "bias")
    }
    assert "2x2" in found.note


def test_a_file_from_before_norms_counted_their_batches() -> None:
    shapes = {
        name: shape for name, shape in resnet("resnet18").items() if not name.endswith("num_batches_tracked")
    }
    backbone(imported(torchvision_classification, without_values(shapes)))


@pytest.mark.parametrize("name", [name for name in CLASSIFICATION if name not in ("resnet101", "resnet152")])
def test_a_cut_or_changed_network_is_refused_by_name(name: str) -> None:
    shapes = CLASSIFICATION[name]()
    known_by = {"vgg16": "classifier.", "mobilenetv2": "classifier.1.w"}.get(
        name, "fc.w" if "resnet" in name else "classifier.3.w"
    )
    assert_a_cut_file_is_refused(
        torchvision_classification, shapes, but=[key for key in shapes if key.startswith(known_by)]
    )
    assert_another_shape_is_refused(torchvision_classification, shapes, next(iter(shapes)))


@pytest.mark.parametrize(
    "other",
    [
        {"layer1.0.conv2.weight": [128, 4, 3, 3]},  # ResNeXt-50
        {"layer1.0.conv2.weight": [128, 128, 3, 3]},  # Wide ResNet-50
        {"layer1.0.se.fc1.weight": [16, 256, 1, 1]},  # with squeeze and excitation
        {"layer3.6.conv1.weight": [256, 1024, 1, 1]},  # of other units
    ],
)
def test_other_resnets_are_not_taken(other: Shapes) -> None:
    assert torchvision_classification(without_values({**resnet("resnet50"), **other})) is None


def test_a_backbone_without_a_classifier_may_be_anybodys() -> None:
    shapes = {name: shape for name, shape in resnet("resnet50").items() if not name.startswith("fc.")}
    assert torchvision_classification(without_values(shapes)) is None
