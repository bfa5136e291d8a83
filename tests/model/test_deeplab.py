"""Both models on every backbone."""

import pytest
import torch

import deeplabx
from deeplabx import config
from deeplabx.backbone import BACKBONES, build_backbone
from deeplabx.errors import ConfigError
from deeplabx.model import MODELS, build_head

ON_EVERY_BACKBONE = [(backbone, 16) for backbone in BACKBONES]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("backbone", "output_stride"), [*ON_EVERY_BACKBONE, ("mobilenetv2", 8), ("mobilenetv2", 32), ("resnet18", 8)])
def test_logits_have_exactly_the_pictures_size(model: str, backbone: str, output_stride: int) -> None:
    network = deeplabx.build_model(model, backbone=backbone, num_classes=5, output_stride=output_stride).eval()
    with torch.no_grad():
        for size in [(output_stride, output_stride), (output_stride + 1, 47), (65, 33)]:
            logits = network(torch.randn(1, 3, *size))
            assert logits.shape == (1, 5, *size)
            assert torch.isfinite(logits).all()


# Ours + what theirs have more, or - what theirs lack: their published counts
CONV_3X3_256 = 256 * 256 * 9 + 2 * 256


@pytest.mark.parametrize(
    ("model", "backbone", "parameters"),
    [
        ("deeplabv3", "resnet50", 39_638_869 - CONV_3X3_256),  # torchvision's has a 3x3 after the projection that the paper has not
        ("deeplabv3", "resnet101", 58_630_997 - CONV_3X3_256),
        ("deeplabv3plus", "resnet50", 39_761_845 + CONV_3X3_256),  # a well-known port has one 3x3 in the decoder, the paper two
        ("deeplabv3plus", "resnet101", 58_753_973 + CONV_3X3_256),
        ("deeplabv3", "mobilenetv2", 2_113_557),  # the paper's 2.11 M: no atrous branches
    ],
)
def test_parameters(model: str, backbone: str, parameters: int) -> None:
    network = deeplabx.build_model(model, backbone=backbone, num_classes=21)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_changing_the_output_stride_reuses_the_weights() -> None:
    trained = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, output_stride=16)
    evaluated = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, output_stride=8)
    evaluated.load_state_dict(trained.state_dict(), strict=True)


def test_null_means_as_the_backbone_says() -> None:
    by_backbone = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4)
    said = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, separable=True, atrous_rates=[6, 12, 18])
    dense = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, separable=False)
    assert by_backbone.state_dict().keys() == said.state_dict().keys()
    assert dense.state_dict().keys() != said.state_dict().keys()


def test_every_model_has_a_yaml_and_every_yaml_a_model() -> None:
    assert sorted(MODELS) == config.options("model")


def test_wrong_names_and_strides_are_refused() -> None:
    backbone = build_backbone("resnet18", output_stride=16)
    with pytest.raises(ConfigError, match="model=unet is not known"):
        build_head("unet", backbone, num_classes=2)
    with pytest.raises(ConfigError, match="backbone=vit is not known"):
        build_backbone("vit", output_stride=16)
    with pytest.raises(ConfigError, match="output_stride=12"):
        build_backbone("resnet18", output_stride=12)
