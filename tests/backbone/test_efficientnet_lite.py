import torch
from torch import nn

from deeplabx.registry import build
from tests.model import peers


def test_names_shapes_and_features_are_timms_at_an_odd_size() -> None:
    network = peers.LastFeatures(build("backbone", "efficientnet_lite0", output_stride=16), every=16)
    found = peers.difference(
        network, "timm_tf_efficientnet_lite0_features", theirs=lambda ours: ours.removeprefix("backbone.")
    )
    assert found < 1e-6


def test_parameters_are_timms() -> None:
    # timm's published count less its last 1x1 to 1280 with its norm and its classifier of 1000 classes
    parameters = sum(
        parameter.numel()
        for parameter in build("backbone", "efficientnet_lite0", output_stride=16).parameters()
    )
    assert parameters == 4_652_008 - 320 * 1280 - 2 * 1280 - 1281 * 1000


def test_images_are_normalised_as_the_published_weights_expect() -> None:
    normalise = build("backbone", "efficientnet_lite0", output_stride=16).normalization
    assert torch.allclose(
        normalise(torch.tensor([[[[0, 127, 255]]]], dtype=torch.uint8)).flatten(),
        torch.tensor([-127 / 128, 0, 1]),
    )


def test_every_norm_has_the_released_epsilon() -> None:
    backbone = build("backbone", "efficientnet_lite0", output_stride=16)
    assert {module.eps for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_the_strided_kernel_keeps_the_old_rate() -> None:
    backbone = build("backbone", "efficientnet_lite0", output_stride=8)
    rates = [
        kernel.dilation[0]
        for kernel in backbone.modules()
        if isinstance(kernel, nn.Conv2d) and kernel.groups > 1
    ]
    assert rates == [1] * 6 + [2] * 6 + [4] * 4


def test_a_unit_begins_as_the_identity() -> None:
    unit = build("backbone", "efficientnet_lite0", output_stride=16).get_submodule("blocks.2.1").eval()
    x = torch.randn(1, 40, 5, 7)
    assert torch.equal(unit(x), x)
