"""timm is an extra: without it, only its absence is tested here."""

import sys
from math import ceil
from typing import Any

import pytest
import torch
from torch import nn

from deeplabx.backbone.normalization import IMAGENET, MINUS_ONE_TO_ONE
from deeplabx.backbone.pretrained import load_matching
from deeplabx.command.show import show
from deeplabx.errors import ConfigError
from deeplabx.model.norm import freeze_norm, group_norm
from deeplabx.registry import build
from tests.conftest import compose_plain

# One for each way in which timm gives features
MODELS = ("resnet18d", "convnext_atto", "efficientnet_lite0", "mobilenetv3_small_050", "xception41")
LARGEST_SLOW = [*MODELS[:-1], pytest.param("xception41", marks=pytest.mark.slow)]
# Each at output stride 16, one at every output stride; the rest is slow
AT_STRIDES = [
    pytest.param(model, stride, marks=() if stride == 16 or model == "resnet18d" else pytest.mark.slow)
    for model in MODELS
    for stride in (8, 16, 32)
]


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


def built(model: str, *, output_stride: int = 16, in_channels: int = 3) -> Any:
    return build("backbone", "timm", model=model, output_stride=output_stride, in_channels=in_channels).eval()


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # Python's own way to say that there is none
    with pytest.raises(ConfigError, match=r"backbone=timm needs timm.*\npip install timm"):
        built("resnet18d")


def test_a_model_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"backbone.model must be given\nset backbone.model="):
        compose_plain("backbone=timm")


@pytest.mark.parametrize(("model", "output_stride"), [*AT_STRIDES, ("hrnet_w18_small", 32)])
def test_a_network_keeps_a_backbones_promise(timm: Any, model: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = built(model, output_stride=output_stride)
        for height, width in ((65, 97), (64, 96), (33, 50), (513, 33)):
            low_level, middle, auxiliary, high = backbone(torch.zeros(1, 3, height, width))
            assert low_level.shape == (1, backbone.low_level_channels, ceil(height / 4), ceil(width / 4))
            assert middle.shape == (1, backbone.middle_channels, ceil(height / 8), ceil(width / 8))
            assert auxiliary.shape[:2] == (1, backbone.auxiliary_channels)
            assert high.shape == (
                1,
                backbone.channels,
                ceil(height / output_stride),
                ceil(width / output_stride),
            )


@pytest.mark.parametrize("model", MODELS)
def test_a_file_of_timms_fills_it_and_the_features_are_timms(timm: Any, model: str) -> None:
    whole = timm.create_model(model, pretrained=False).eval()
    features = timm.create_model(model, pretrained=False, features_only=True).eval()
    backbone = built(model, output_stride=32)
    loaded = load_matching(backbone, whole.state_dict(), source=model)
    assert (loaded.not_in_file, loaded.other_shape) == ([], [])
    ours = backbone.network.state_dict().values()  # in timm's order
    features.load_state_dict(dict(zip(features.state_dict(), ours, strict=True)))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = features(images), backbone(images)
    assert all(torch.equal(level, theirs) for level, theirs in zip(found, expected[-4:], strict=True))


@pytest.mark.parametrize("model", LARGEST_SLOW)
def test_what_was_trained_at_one_output_stride_loads_at_another(timm: Any, model: str) -> None:
    trained, evaluated = built(model, output_stride=16), built(model, output_stride=8)
    evaluated.load_state_dict(trained.state_dict(), strict=True)
    assert all(
        torch.equal(value, evaluated.state_dict()[name]) for name, value in trained.state_dict().items()
    )
    with pytest.raises(RuntimeError, match="Unexpected key"):
        evaluated.load_state_dict({**trained.state_dict(), "other": torch.zeros(1)})


@pytest.mark.parametrize("model", LARGEST_SLOW)
def test_every_parameter_takes_part(timm: Any, model: str) -> None:
    backbone = built(model)
    sum(level.square().sum() for level in backbone(torch.randn(1, 3, 65, 65))).backward()
    assert not [name for name, parameter in backbone.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("model", ["efficientnet_lite0", "xception41"])
def test_who_changes_a_norm_leaves_its_activation(timm: Any, model: str) -> None:
    backbone, images = built(model), torch.randn(1, 3, 65, 65)
    names = list(backbone.state_dict())
    with torch.no_grad():
        expected = backbone(images)
        freeze_norm(backbone)
        assert all(torch.equal(level, was) for level, was in zip(backbone(images), expected, strict=True))
    activations = sum(isinstance(module, nn.ReLU | nn.ReLU6) for module in backbone.modules())
    group_norm(backbone)
    assert sum(isinstance(module, nn.ReLU | nn.ReLU6) for module in backbone.modules()) == activations > 0
    assert list(backbone.state_dict()) == [
        name for name in names if "running_" not in name and "num_batches" not in name
    ]


def test_the_facts_are_those_of_the_network(timm: Any) -> None:
    resnet, convnext, lite = built("resnet18d"), built("convnext_atto"), built("tf_efficientnet_lite0")
    assert [backbone.separable for backbone in (resnet, convnext, lite)] == [False, True, True]
    assert resnet.normalization.mean == pytest.approx(IMAGENET.mean)
    assert resnet.normalization.std == pytest.approx(IMAGENET.std)
    assert lite.normalization == MINUS_ONE_TO_ONE
    assert (
        resnet.low_level_channels,
        resnet.middle_channels,
        resnet.auxiliary_channels,
        resnet.channels,
    ) == (64, 128, 256, 512)


def test_only_networks_that_round_down_see_padded_images(timm: Any) -> None:
    assert [built(model).padded for model in MODELS] == [False, True, False, False, False]


def test_it_takes_images_of_any_number_of_bands(timm: Any) -> None:
    assert built("mobilenetv3_small_050", in_channels=5)(torch.zeros(1, 5, 65, 33)).high.shape[2:] == (5, 3)


@pytest.mark.parametrize(
    ("model", "output_stride", "said"),
    [
        (
            "ghostnet_050",
            16,
            r"cannot build backbone.model=ghostnet_050 at output stride 16: AssertionError.*\nset "
            r"backbone.output_stride=32",
        ),
        (
            "densenet121",
            8,
            r"at output stride 8: TypeError.*\nset backbone.output_stride=32, or use a network such as "
            r"resnet50d",
        ),
        (
            "vit_tiny_patch16_224",
            16,
            r"at output stride 16: TypeError.*\nuse a convolutional network such as resnet50d",
        ),
        (
            "vit_tiny_patch16_224",
            32,
            r"has features at strides 16, 16, 16; it must have 4, 8 and, as the last, 32\nuse a "
            r"convolutional network",
        ),
        ("swin_tiny_patch4_window7_224", 32, r"for 75 x 97 pixels it raises AssertionError: Input height"),
        (
            "resnet18d.no_such_weights",
            32,
            r"backbone.model=resnet18d.no_such_weights at output stride 32: RuntimeError: Invalid "
            r"pretrained tag",
        ),
        ("resnet1d", 16, r"backbone.model=resnet1d is not a model of timm [\d.]+\ndid you mean resnet18d, "),
        ("hf-hub:timm/resnet18", 16, "is not a model of timm"),
        ("local-dir:resnet18", 16, "is not a model of timm"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_what_would(
    timm: Any, model: str, output_stride: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        built(model, output_stride=output_stride)


def test_show_knows_it(timm: Any) -> None:
    text = show(compose_plain("backbone=timm", "backbone.model=resnet18d", command="show"))
    assert "backbone       resnet18d" in text
    assert "512 channels at stride 16, 64 at stride 4" in text


def test_weights_for_rgb_are_fitted_to_other_bands() -> None:
    pytest.importorskip("timm")
    rgb, many = (
        build("backbone", "timm", output_stride=32, in_channels=bands, model="convnext_atto")
        for bands in (3, 5)
    )
    loaded = load_matching(many, rgb.state_dict(), source="rgb")
    assert loaded.inflated == ["stem.0.weight"]
    assert not loaded.other_shape
