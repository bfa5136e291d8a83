from torch import nn

from deeplabx.registry import build


def test_parameters_are_torchvisions() -> None:
    # torchvision's `features` (2,223,872) less its last 1x1 to 1280 with its norm, which DeepLab does not use
    assert (
        sum(
            parameter.numel() for parameter in build("backbone", "mobilenetv2", output_stride=16).parameters()
        )
        == 2223872 - 320 * 1280 - 2 * 1280
    )


def test_names_are_torchvisions() -> None:
    names = set(build("backbone", "mobilenetv2", output_stride=16).state_dict())
    assert {
        "features.0.0.weight",
        "features.1.conv.1.weight",
        "features.2.conv.1.0.weight",
        "features.17.conv.3.running_mean",
    } <= names
    assert not any(name.startswith("features.18") for name in names)


def test_rates_at_output_stride_8_are_those_of_googles_model() -> None:
    backbone = build("backbone", "mobilenetv2", output_stride=8)
    rates = [
        kernel.dilation[0]
        for kernel in backbone.modules()
        if isinstance(kernel, nn.Conv2d) and kernel.groups > 1
    ][1:]
    # its expanded_conv_1..16: 7-13 at rate 2, 14-16 at rate 4
    assert rates == [1] * 6 + [2] * 7 + [4] * 3
