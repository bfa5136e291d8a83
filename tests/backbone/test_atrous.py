import inspect

import pytest
import torch

from deeplabx.backbone import BACKBONES, build_backbone
from deeplabx.backbone.atrous import atrous_steps


def without_multi_grid(name: str) -> dict[str, tuple[int, ...]]:
    """Settings under which a backbone is the strided network and nothing more."""
    default = inspect.signature(BACKBONES[name]).parameters.get("multi_grid")
    return {"multi_grid": (1,) * len(default.default)} if default else {}


def test_the_strided_convolution_keeps_the_old_rate() -> None:
    assert [tuple(step) for step in atrous_steps([2, 2, 1, 2, 2, 2], output_stride=8)] == [
        (2, 1, 1),
        (2, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
        (1, 1, 2),
        (1, 2, 4),
    ]


LARGE = ("resnet101", "resnet101_beta", "xception65", "xception71")  # more of the same units, and seconds each


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *(pytest.param(name, 8, marks=[pytest.mark.slow] if name in LARGE else []) for name in BACKBONES),
        ("resnet18", 16),
        ("xception41", 16),
    ],
)
def test_the_converted_network_computes_the_strided_one_at_more_places(name: str, output_stride: int) -> None:
    family = without_multi_grid(name)
    torch.manual_seed(0)
    strided = build_backbone(name, output_stride=32, **family).double().eval()
    converted = build_backbone(name, output_stride=output_stride, **family).double().eval()
    converted.load_state_dict(strided.state_dict())
    for parameter in converted.parameters():  # residual branches begin at zero: give each its say
        torch.nn.init.normal_(parameter, std=0.1)
    strided.load_state_dict(converted.state_dict())
    images = torch.randn(1, 3, 33, 65, dtype=torch.float64)
    with torch.no_grad():
        expected, dense = strided(images).high, converted(images).high
    every = 32 // output_stride
    assert torch.allclose(dense[:, :, ::every, ::every], expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert expected.std() > 0
