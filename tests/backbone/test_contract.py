from inspect import Parameter, signature
from math import ceil

import numpy as np
import pytest
import torch

from deeplabx.backbone.normalization import IMAGENET, MINUS_ONE_TO_ONE
from deeplabx.command.yaml_files import choices
from deeplabx.registry import OPTIONS, build

# Large ones are more of the same units, and seconds each; timm's are in test_timm_models.py
LARGE = (
    "resnet101",
    "resnet152",
    "resnet101_beta",
    "resnet101_caffe",
    "resnet101_v1c",
    "xception65",
    "xception71",
)
OWN = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
    for name in choices("backbone")
    if name != "timm"
]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_a_backbone_keeps_its_promise(name: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = build("backbone", name, output_stride=output_stride).eval()
        for height, width in ((65, 97), (1025, 33), *(() if "caffe" in name else ((64, 50),))):
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


@pytest.mark.parametrize("name", OWN)
def test_a_backbone_takes_images_of_any_number_of_bands(name: str) -> None:
    with torch.device("meta"):
        backbone = build("backbone", name, output_stride=16, in_channels=5).eval()
        assert backbone(torch.zeros(1, 5, 65, 33)).high.shape == (1, backbone.channels, 5, 3)
        with pytest.raises(RuntimeError, match="channel"):
            backbone(torch.zeros(1, 3, 65, 33))


def test_every_backbone_has_a_yaml_and_every_yaml_a_backbone() -> None:
    assert sorted(OPTIONS["backbone"]) == choices("backbone")


@pytest.mark.parametrize("name", OPTIONS["backbone"])
def test_a_builder_names_its_settings(name: str) -> None:
    settings = signature(OPTIONS["backbone"][name].builder).parameters
    assert {setting.kind for setting in settings.values()} == {Parameter.KEYWORD_ONLY}
    assert settings["output_stride"].default is Parameter.empty
    assert settings["in_channels"].default == 3


@pytest.mark.parametrize("name", [name for name in OPTIONS["backbone"] if name.startswith("resnet")])
def test_a_builder_of_a_resnet_has_no_other_settings(name: str) -> None:
    assert set(signature(OPTIONS["backbone"][name].builder).parameters) == {
        "output_stride",
        "in_channels",
        "multi_grid",
        "blocks",
    }


def test_normalization_is_the_formula_in_channels_last() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    normalised = IMAGENET(torch.from_numpy(images))
    expected = (images.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(normalised.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


def test_the_pad_pixel_is_the_rounded_mean() -> None:
    assert IMAGENET.pad_pixel == (124, 116, 104)
    assert MINUS_ONE_TO_ONE.pad_pixel == (128, 128, 128)
