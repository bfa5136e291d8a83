import pytest
import torch
from torch import nn

from deeplabx.backbone.resnet import resnet50_caffe, resnet50_keras
from deeplabx.errors import ConfigError
from deeplabx.registry import build


# torchvision's published counts less their fully connected layer (1000 classes)
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11689512 - 513000), ("resnet50", 25557032 - 2049000), ("resnet101", 44549160 - 2049000)],
)
def test_parameters_are_torchvisions(name: str, parameters: int) -> None:
    assert (
        sum(parameter.numel() for parameter in build("backbone", name, output_stride=16).parameters())
        == parameters
    )


# counted in timm's resnet50c and resnet101c, and in mmsegmentation's ResNetV1c
@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet50_v1c", 23_527_264), ("resnet101_v1c", 42_519_392)]
)
def test_parameters_of_v1c_are_others(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert (
            sum(parameter.numel() for parameter in build("backbone", name, output_stride=8).parameters())
            == parameters
        )


def test_v1c_has_another_stem_and_the_strides_of_torchvisions() -> None:
    with torch.device("meta"):
        backbone, plain = (build("backbone", name, output_stride=32) for name in ("resnet50_v1c", "resnet50"))
    own = [
        tuple(module.weight.shape)
        for module in backbone.get_submodule("conv1").modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert own == [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3)]
    assert strided(backbone) == ["conv1.0", *strided(plain)[1:]]


def strided(backbone: nn.Module) -> list[str]:
    return [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    ]


def test_names_are_torchvisions() -> None:
    names = set(build("backbone", "resnet50", output_stride=16).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.downsample.0.weight",
        "layer3.5.conv2.weight",
        "layer4.2.bn3.num_batches_tracked",
    } <= names


def rate_of(convolution: nn.Module) -> int:
    assert isinstance(convolution, nn.Conv2d)
    return convolution.dilation[0]


def test_multi_grid_multiplies_the_last_blocks_rates() -> None:
    backbone = build("backbone", "resnet50", output_stride=16, multi_grid=(1, 2, 4))
    rates = [rate_of(backbone.get_submodule(f"layer4.{unit}.conv2")) for unit in range(3)]
    assert rates == [1, 4, 8]  # the first unit carried the stride and keeps rate 1; the others are 2 x (2, 4)
    assert (
        rate_of(
            build("backbone", "resnet50", output_stride=32, multi_grid=(1, 2, 4)).get_submodule(
                "layer4.2.conv2"
            )
        )
        == 4
    )


def test_a_multi_grid_of_another_length_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"backbone.multi_grid=\[1, 2\] must have 3 rates"):
        build("backbone", "resnet50", output_stride=16, multi_grid=[1, 2])


def test_a_unit_begins_as_the_identity() -> None:
    unit = build("backbone", "resnet50", output_stride=16).get_submodule("layer1.1").eval()
    x = torch.rand(1, 256, 5, 5)
    assert torch.equal(unit(x), x)


def test_beta_has_the_stride_in_the_last_unit_of_blocks_1_to_3() -> None:
    backbone = build("backbone", "resnet50_beta", output_stride=32)
    assert strided(backbone) == ["conv1.0", "layer1.2.conv2", "layer2.3.conv2", "layer3.5.conv2"]
    assert [
        rate_of(build("backbone", "resnet50_beta", output_stride=16).get_submodule(f"layer4.{unit}.conv2"))
        for unit in range(3)
    ] == [
        2,
        4,
        8,
    ]


def test_betas_low_level_features_are_those_before_the_stride_of_block_1() -> None:
    backbone = build("backbone", "resnet50_beta", output_stride=16).eval()
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        stem = backbone.get_submodule("maxpool")(
            torch.relu(backbone.get_submodule("bn1")(backbone.get_submodule("conv1")(images)))
        )
        expected = backbone.get_submodule("layer1.1")(backbone.get_submodule("layer1.0")(stem))
        assert torch.equal(backbone(images).low_level, expected)


def test_a_shortcut_that_only_changes_resolution_has_no_weights() -> None:
    unit = build("backbone", "resnet50_beta", output_stride=32).get_submodule("layer1.2").eval()
    x = torch.rand(1, 256, 5, 7)
    assert torch.equal(unit(x), x[:, :, ::2, ::2])  # its residual branch begins at zero


@pytest.mark.parametrize(
    ("side", "caffe", "keras"), [(224, 57, 56), (225, 57, 57), (226, 57, 57), (227, 58, 57), (513, 129, 129)]
)
def test_keras_is_caffes_without_ceil_mode(side: int, caffe: int, keras: int) -> None:
    with torch.device("meta"):
        images = torch.zeros(1, 3, side, 33)
        assert resnet50_caffe(output_stride=16)(images).low_level.shape[2] == caffe
        assert resnet50_keras(output_stride=16)(images).low_level.shape[2] == keras
