import pytest
import torch
from torch import nn

from deeplabx.registry import build
from tests.model import peers


# timm's published counts less their classifier of 1000 classes
@pytest.mark.parametrize(
    ("name", "parameters"), [("xception65", 39_916_312 - 2_049_000), ("xception71", 42_338_736 - 2_049_000)]
)
def test_parameters_are_timms(name: str, parameters: int) -> None:
    assert (
        sum(parameter.numel() for parameter in build("backbone", name, output_stride=16).parameters())
        == parameters
    )


def test_names_are_timms() -> None:
    names = set(build("backbone", "xception65", output_stride=16).state_dict())
    assert {
        "stem.1.conv.weight",
        "stem.1.bn.bias",
        "blocks.0.shortcut.conv.weight",
        "blocks.0.stack.conv3.conv_dw.weight",
        "blocks.19.stack.conv1.bn_pw.running_var",
        "blocks.20.stack.conv3.bn_dw.weight",
    } <= names


def test_the_last_features_are_timms() -> None:
    network = peers.LastFeatures(build("backbone", "xception65", output_stride=16), every=64)
    assert (
        peers.difference(
            network, "timm_xception65_features", theirs=lambda ours: ours.removeprefix("backbone.")
        )
        < 1e-6
    )


@pytest.mark.parametrize(("name", "unit"), [("xception41", 1), ("xception65", 1), ("xception71", 2)])
def test_low_level_features_are_those_before_the_stride_from_4_to_8(name: str, unit: int) -> None:
    backbone = build("backbone", name, output_stride=16).eval()
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        x = backbone.get_submodule("stem")(images)
        for index in range(unit):
            x = backbone.get_submodule(f"blocks.{index}")(x)
        for layer in ("act1", "conv1", "act2", "conv2"):
            x = backbone.get_submodule(f"blocks.{unit}.stack.{layer}")(x)
        low_level = backbone(images).low_level
    assert low_level.shape == (1, 256, 17, 17)
    assert torch.equal(low_level, x)
    assert low_level.min() < 0  # before the ReLU


def test_a_unit_begins_as_its_shortcut_and_the_norms_have_the_released_epsilon() -> None:
    backbone = build("backbone", "xception41", output_stride=16).eval()
    x = torch.randn(1, 728, 5, 5)
    assert torch.equal(backbone.get_submodule("blocks.5")(x), x)
    assert {module.eps for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_the_exit_flow_is_dilated_from_its_last_unit_on() -> None:
    backbone = build("backbone", "xception65", output_stride=16)
    dilated = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.dilation == (2, 2)
    ]
    assert dilated == [f"blocks.20.stack.conv{number}.conv_dw" for number in (1, 2, 3)]
    assert not [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.dilation[0] > 2
    ]
