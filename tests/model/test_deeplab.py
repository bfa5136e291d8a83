"""What all models share, on every backbone."""

import itertools
from inspect import Parameter, signature

import pytest
import torch
from torch import nn

import deeplabx
from deeplabx.command.yaml_files import conf_dir
from deeplabx.errors import ConfigError
from deeplabx.registry import OPTIONS, build

ONE_OF_EACH_FAMILY = ("mobilenetv2", "resnet18", "resnet50_caffe", "vgg16", "xception41")
SIDES = (33, 64, 65, 97, 513, 769, 1025)


@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        *itertools.product(OPTIONS["model"], ONE_OF_EACH_FAMILY),
        *(("deeplabv3plus", name) for name in ("mobilenetv3_large", "efficientnet_lite0", "resnet50_beta")),
    ],
)
def test_logits_have_exactly_the_images_size(model: str, backbone: str) -> None:
    with torch.device("meta"):
        network = deeplabx.build_model(model, backbone=backbone, num_classes=5).eval()
        for size in zip(SIDES, reversed(SIDES), strict=True) if backbone == "resnet18" else [(64, 97)]:
            assert network(torch.zeros(1, 3, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("model", OPTIONS["model"])
@pytest.mark.parametrize(
    ("backbone", "output_stride"), [("mobilenetv2", 8), ("resnet18", 16), ("resnet18", 32)]
)
def test_logits_are_finite_from_one_output_stride_up(model: str, backbone: str, output_stride: int) -> None:
    network = deeplabx.build_model(
        model, backbone=backbone, num_classes=5, output_stride=output_stride
    ).eval()
    with torch.no_grad():
        for size in [(output_stride, output_stride), (output_stride + 1, 47), (65, 33)]:
            logits = network(torch.randn(1, 3, *size))
            assert logits.shape == (1, 5, *size)
            assert torch.isfinite(logits).all()


@pytest.mark.parametrize("model", OPTIONS["model"])
def test_a_model_names_its_settings(model: str) -> None:
    backbone, *settings = signature(OPTIONS["model"][model].builder).parameters.values()
    assert backbone.name == "backbone"
    assert {setting.kind for setting in settings} == {Parameter.KEYWORD_ONLY}
    assert {"num_classes", "align_corners", "auxiliary_weight"} <= {setting.name for setting in settings}


# Published counts of other people's models
@pytest.mark.parametrize(
    ("model", "backbone", "settings", "parameters"),
    [
        ("deeplabv3", "resnet50", {"head_convolution": True}, 39_638_869),  # torchvision
        ("deeplabv3", "resnet50", {"head_convolution": True, "auxiliary_weight": 0.5}, 42_004_074),
        ("deeplabv3", "resnet101", {"head_convolution": True}, 58_630_997),
        ("deeplabv3plus", "resnet50", {"decoder_convolutions": 1}, 39_761_845),  # a well-known port
        ("deeplabv3plus", "resnet101", {"decoder_convolutions": 1}, 58_753_973),
        ("deeplabv3plus", "mobilenetv2", {"decoder_convolutions": 1, "separable": False}, 5_225_717),
        (
            "deeplabv3",
            "resnet50_v1c",
            {"channels": 512, "projection_kernel": 3},
            65_749_365,
        ),  # mmsegmentation's, less its auxiliary head
        (
            "deeplabv3plus",
            "resnet50_v1c",
            {"channels": 512, "projection_kernel": 3, "separable": True},
            41_226_213,
        ),
        ("deeplabv3", "mobilenetv2", {}, 2_113_557),  # the paper's 2.11 M: no atrous branches
        ("deeplabv1", "vgg16", {}, 20_505_429),  # 20.5 M in v1, table 2
        ("deeplabv1", "vgg16", {"fc6": "7x7"}, 134_346_581),  # 134.3 M there
    ],
)
def test_parameters(model: str, backbone: str, settings: dict, parameters: int) -> None:
    with torch.device("meta"):
        network = deeplabx.build_model(model, backbone=backbone, num_classes=21, **settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_auxiliary_head_speaks_in_training_only() -> None:
    network = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=4, auxiliary_weight=0.4)
    images = torch.randn(2, 3, 33, 47)
    main, auxiliary = network.train()(images)
    assert main.shape == auxiliary.shape == (2, 4, 33, 47)
    assert network.loss_weights == (1.0, 0.4)
    assert network.eval()(images).shape == main.shape


@pytest.mark.parametrize("model", OPTIONS["model"])
def test_bands_other_than_three(model: str) -> None:
    network = deeplabx.build_model(model, backbone="resnet18", num_classes=4, in_channels=6).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 6, 33, 40)).shape == (1, 4, 33, 40)


def test_multi_grid_is_the_default_of_v3_and_v3plus_only() -> None:
    for model, rates in {"deeplabv1": 1, "deeplabv2": 1, "deeplabv3": 4, "deeplabv3plus": 4}.items():
        network = deeplabx.build_model(model, backbone="resnet50", num_classes=4, output_stride=32)
        last = network.get_submodule("backbone.layer4.2.conv2")
        assert isinstance(last, nn.Conv2d)
        assert last.dilation == (rates, rates)


def test_changing_the_output_stride_reuses_the_weights() -> None:
    trained = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, output_stride=16)
    evaluated = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, output_stride=8)
    evaluated.load_state_dict(trained.state_dict(), strict=True)


def test_null_means_as_the_backbone_says() -> None:
    by_backbone = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4)
    said = deeplabx.build_model(
        "deeplabv3plus", backbone="mobilenetv2", num_classes=4, separable=True, atrous_rates=[6, 12, 18]
    )
    dense = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=4, separable=False)
    assert by_backbone.state_dict().keys() == said.state_dict().keys()
    assert dense.state_dict().keys() != said.state_dict().keys()


def test_every_model_has_a_yaml_and_every_yaml_a_model() -> None:
    assert sorted(OPTIONS["model"]) == sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))


def test_wrong_names_and_strides_are_refused() -> None:
    backbone = build("backbone", "resnet18", output_stride=16)
    with pytest.raises(ConfigError, match="model=unet is not known"):
        build("model", "unet", backbone, num_classes=2)
    with pytest.raises(ConfigError, match="backbone=vit is not known"):
        build("backbone", "vit", output_stride=16)
    with pytest.raises(ConfigError, match="output_stride=12"):
        build("backbone", "resnet18", output_stride=12)
