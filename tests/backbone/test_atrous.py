import pytest
import torch

from deeplabx.backbone.atrous import atrous_steps
from deeplabx.registry import OPTIONS, build
from tests.backbone.test_contract import LARGE


def test_the_strided_convolution_keeps_the_old_rate() -> None:
    assert [tuple(step) for step in atrous_steps([2, 2, 1, 2, 2, 2], output_stride=8)] == [
        (2, 1, 1),
        (2, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
        (1, 1, 2),
        (1, 2, 4),
    ]


INEXACT = (
    "vgg16",  # at 8: pool5 was published without a rate
    # its gates see the mean of more features; without them it is exact (test_mobilenetv3.py)
    "mobilenetv3_large",
    "mobilenetv3_small",
    "timm",  # whatever timm makes of it
)


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *(
            pytest.param(name, 8, marks=[pytest.mark.slow] if name in LARGE else [])
            for name in OPTIONS["backbone"]
            if name not in INEXACT
        ),
        ("vgg16", 16),
        ("resnet18", 16),
        ("xception41", 16),
    ],
)
def test_the_converted_network_computes_the_strided_one_at_more_places(name: str, output_stride: int) -> None:
    torch.manual_seed(0)
    strided = build("backbone", name, output_stride=32).double().eval()
    converted = build("backbone", name, output_stride=output_stride).double().eval()
    converted.load_state_dict(strided.state_dict())
    for parameter in converted.parameters():  # residual branches begin at zero: give each its say
        torch.nn.init.normal_(parameter, std=0.1)
    strided.load_state_dict(converted.state_dict())
    images = torch.randn(1, 3, 33, 65, dtype=torch.float64)
    with torch.no_grad():
        expected, dense = strided(images).high, converted(images).high
    every = 32 // output_stride
    assert torch.allclose(
        dense[:, :, ::every, ::every], expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())
    )
    assert expected.std() > 0
