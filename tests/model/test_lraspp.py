from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplabx.api import build_model
from deeplabx.backbone.contract import Features
from deeplabx.errors import ConfigError
from deeplabx.model.lraspp import LRASPP


def lraspp(backbone: str = "mobilenetv3_small", **settings: Any) -> LRASPP:
    model = build_model("lraspp", backbone=backbone, num_classes=5, **settings)
    assert isinstance(model, LRASPP)
    return model


def test_it_has_as_many_parameters_as_torchvisions() -> None:
    model = build_model("lraspp", backbone="mobilenetv3_large", num_classes=21)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_221_538


def test_deeplabv3_on_mobilenetv3_has_as_many_parameters_as_torchvisions() -> None:
    model = build_model(
        "deeplabv3",
        backbone="mobilenetv3_large",
        num_classes=21,
        separable=False,
        atrous_rates=[12, 24, 36],
        head_convolution=True,
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_025_477


def features_of(model: LRASPP, *, high: tuple[int, int], middle: tuple[int, int]) -> Features:
    nothing = torch.zeros(1)
    backbone = model.backbone
    return Features(
        nothing,
        torch.randn(2, backbone.middle_channels, *middle),
        nothing,
        torch.randn(2, backbone.channels, *high),
    )


def by_hand(model: LRASPP, features: Features, mean: Tensor) -> Tensor:
    """Figure 10; the norm of a model just built is that of zero mean and variance one."""

    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum("nchw,dc->ndhw", x, weight[:, :, 0, 0])

    def upsampled(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)

    weights = dict(model.named_parameters())
    high = convolved(features.high, weights["project.0.weight"]).div((1 + 1e-5) ** 0.5).clamp(min=0)
    gate = upsampled(1 / (1 + torch.exp(-convolved(mean, weights["gate.weight"]))), features.high)
    classified = convolved(upsampled(high * gate, features.middle), weights["classify.weight"])
    classified_middle = convolved(features.middle, weights["classify_middle.weight"])
    return (
        classified
        + classified_middle
        + (weights["classify.bias"] + weights["classify_middle.bias"])[:, None, None]
    )


def test_the_gate_sees_the_whole_image() -> None:
    model = lraspp().eval()
    features = features_of(model, high=(5, 7), middle=(9, 13))
    mean = torch.einsum("nchw->nc", features.high)[:, :, None, None] / 35
    assert torch.allclose(model.logits(features), by_hand(model, features, mean), atol=1e-5)


def test_the_gate_sees_the_squares_of_the_released_code() -> None:
    model = lraspp(output_stride=32, pooling=769, pooling_stride=[4, 5]).eval()
    features = features_of(model, high=(33, 65), middle=(129, 257))  # of a Cityscapes frame, 1025 x 2049
    squares = [
        [features.high[:, :, top : top + 25, left : left + 25].mean((2, 3)) for left in range(0, 41, 5)]
        for top in (0, 4, 8)
    ]
    mean = torch.stack([torch.stack(row, dim=-1) for row in squares], dim=-2)
    assert mean.shape[-2:] == (3, 9)
    assert torch.allclose(model.logits(features), by_hand(model, features, mean), atol=1e-5)


@pytest.mark.parametrize("backbone", ["mobilenetv3_large", "mobilenetv3_small"])
@pytest.mark.parametrize("pooling", [None, 33])
def test_every_parameter_learns(backbone: str, pooling: int | None) -> None:
    torch.manual_seed(0)
    model = lraspp(backbone, pooling=pooling)
    for parameter in (
        model.parameters()
    ):  # a residual unit begins as the identity: its kernels learn from the second step on
        if parameter.ndim == 1:
            torch.nn.init.constant_(parameter, 0.5)
    logits = model(torch.randn(2, 3, 65, 97))
    assert isinstance(logits, Tensor)
    logits.square().mean().backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert silent == []


def test_a_stride_is_two_numbers() -> None:
    with pytest.raises(ConfigError, match=r"model.pooling_stride=\[4\] must be \[down,across\]"):
        lraspp(pooling=65, pooling_stride=[4])


def test_a_stride_needs_squares() -> None:
    with pytest.raises(ConfigError, match=r"model.pooling_stride=\[4, 5\], but model.pooling=null"):
        lraspp(pooling_stride=[4, 5])
