import pytest
import torch
from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone
from deeplabx.backbone.mobilenetv3 import LARGE, SMALL, MobileNetV3, SqueezeExcite, Unit
from deeplabx.registry import build
from tests.model import peers

NAMES = ("mobilenetv3_large", "mobilenetv3_small")


def rates(backbone: Backbone) -> list[int]:
    """The rates of the depthwise kernels, one for each unit."""
    return [
        kernel.dilation[0]
        for kernel in backbone.modules()
        if isinstance(kernel, nn.Conv2d) and kernel.groups > 1
    ]


# of torchvision's `features`, whose last layer is the 1x1 to 960, 576, or with half the channels in the last
# block 480, 288
@pytest.mark.parametrize(
    ("name", "reduced_tail", "parameters", "channels"),
    [
        ("mobilenetv3_large", False, 2_971_952, (24, 40, 112, 960)),
        ("mobilenetv3_large", True, 1_620_512, (24, 40, 112, 480)),
        ("mobilenetv3_small", False, 927_008, (16, 24, 48, 576)),
        ("mobilenetv3_small", True, 438_704, (16, 24, 48, 288)),
    ],
)
def test_parameters_and_channels(
    name: str, reduced_tail: bool, parameters: int, channels: tuple[int, ...]
) -> None:
    backbone = build("backbone", name, output_stride=16, reduced_tail=reduced_tail).eval()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters
    assert tuple(features.shape[1] for features in backbone(torch.zeros(1, 3, 33, 33))) == channels


class High(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images).high


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("mobilenetv3_large", "mobilenet_v3_large"), ("mobilenetv3_small", "mobilenet_v3_small")],
)
def test_names_and_features_are_torchvisions(name: str, theirs: str) -> None:
    network = High(build("backbone", name, output_stride=32))
    assert (
        peers.difference(
            network, f"torchvision_{theirs}_features", theirs=lambda ours: ours.removeprefix("backbone.")
        )
        < 1e-6
    )


@pytest.mark.parametrize(
    ("output_stride", "dilate_strided", "expected"),
    [
        (32, False, [1] * 15),
        (16, False, [1] * 13 + [2] * 2),
        (16, True, [1] * 12 + [2] * 3),  # torchvision's `dilated`
        (8, False, [1] * 7 + [2] * 6 + [4] * 2),
        (8, True, [1] * 6 + [2] * 6 + [4] * 3),
    ],
)
def test_the_new_rate_begins_after_the_strided_unit_or_with_it(
    output_stride: int, dilate_strided: bool, expected: list[int]
) -> None:
    assert (
        rates(
            build("backbone", "mobilenetv3_large", output_stride=output_stride, dilate_strided=dilate_strided)
        )
        == expected
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_with_gates_that_see_nothing_the_converted_network_computes_the_strided_one_at_more_places(
    name: str, output_stride: int
) -> None:
    strided = build("backbone", name, output_stride=32).double().eval()
    converted = build("backbone", name, output_stride=output_stride).double().eval()
    weights = peers.fill({key: tensor.shape for key, tensor in strided.state_dict().items()})
    weights |= {
        key: torch.zeros_like(tensor) for key, tensor in weights.items() if key.endswith("fc2.weight")
    }  # more features, another mean
    strided.load_state_dict(weights)
    converted.load_state_dict(weights)
    images = peers.image(33, 65)
    with torch.no_grad():
        expected, dense = strided(images).high, converted(images).high
    every = 32 // output_stride
    assert torch.allclose(
        dense[:, :, ::every, ::every], expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())
    )
    assert expected.std() > 0


def test_a_gate_is_the_formula() -> None:
    squeeze_excite = SqueezeExcite(16)
    x = torch.randn(2, 16, 5, 3)
    weight1, bias1, weight2, bias2 = (nn.init.normal_(parameter) for parameter in squeeze_excite.parameters())
    hidden = (torch.einsum("nchw,dc->nd", x, weight1[:, :, 0, 0]) / 15 + bias1).clamp(min=0)
    gate = ((hidden @ weight2[:, :, 0, 0].T + bias2 + 3) / 6).clamp(0, 1)
    assert torch.allclose(squeeze_excite(x), x * gate[:, :, None, None], atol=1e-6)


@pytest.mark.parametrize("units", [LARGE, SMALL])
def test_residual_units_begin_as_the_identity(units: tuple[Unit, ...]) -> None:
    backbone = MobileNetV3(units, output_stride=16).eval()
    x = torch.randn(1, backbone.middle_channels, 4, 4)
    assert torch.equal(backbone.features[backbone.ends[1]](x), x)
