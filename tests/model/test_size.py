"""The papers' numbers, without any data."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import deeplabx
from deeplabx.model.contract import DeepLab
from deeplabx.model.size import billions, convolutions, parameter_count, stages


def on_meta(
    model: str, backbone: str, *, output_stride: int = 16, num_classes: int = 21, **settings: Any
) -> DeepLab:
    with torch.device("meta"):
        return deeplabx.build_model(
            model, backbone=backbone, num_classes=num_classes, output_stride=output_stride, **settings
        ).eval()


# multiply-adds at 513 x 513 in billions: plain, and on padded grids as the papers count; the paper's own
# figure
@pytest.mark.parametrize(
    ("model", "backbone", "output_stride", "separable", "plain", "paper"),
    [
        ("deeplabv3", "resnet101_beta", 16, None, 76.05, 81.02),
        ("deeplabv3", "resnet101_beta", 8, None, 252.25, 276.18),
        ("deeplabv3", "resnet101_beta", 32, None, 51.41, 52.43),
        ("deeplabv3plus", "resnet101_beta", 8, None, 273.99, 297.92),
        ("deeplabv3plus", "resnet101_beta", 32, None, 73.17, 74.20),
        ("deeplabv3", "xception65", 16, False, 64.92, 68.00),
        ("deeplabv3plus", "xception65", 16, False, 86.68, 89.76),
        ("deeplabv3plus", "xception65", 16, None, 54.04, 54.17),
        ("deeplabv3plus", "xception65", 8, None, 176.85, 177.10),
        ("deeplabv3", "mobilenetv2", 16, None, 2.74, 2.75),
    ],
)
def test_multiply_adds(
    model: str, backbone: str, output_stride: int, separable: bool | None, plain: float, paper: float
) -> None:
    ran = convolutions(
        on_meta(model, backbone, output_stride=output_stride, separable=separable), height=513, width=513
    )
    assert billions(ran) == pytest.approx(plain, rel=1e-3)
    assert billions(ran, padded=True) == pytest.approx(paper, rel=4e-3)


def test_multiply_adds_of_v3plus_on_resnet101_beta_at_stride_16_do_not_fit_the_papers() -> None:
    ran = convolutions(on_meta("deeplabv3plus", "resnet101_beta"), height=513, width=513)
    assert billions(ran) == pytest.approx(97.81, rel=1e-3)
    assert billions(ran, padded=True) == pytest.approx(
        102.59, rel=1e-3
    )  # 101.28 in the paper; its rows for stride 8 and 32 fit


def test_multiply_adds_on_a_cityscapes_frame() -> None:
    ran = convolutions(on_meta("deeplabv3", "mobilenetv2", num_classes=19), height=1025, width=2049)
    assert billions(ran, padded=True) == pytest.approx(21.27, rel=4e-3)


@pytest.mark.parametrize(
    ("model", "backbone", "parameters"),
    [
        ("deeplabv3", "resnet101_beta", 58_164_437),
        ("deeplabv3plus", "xception65", 41_055_413),
        ("deeplabv3", "mobilenetv2", 2_113_557),
    ],
)
def test_parameters(model: str, backbone: str, parameters: int) -> None:
    assert parameter_count(on_meta(model, backbone)) == parameters


def test_plain_multiply_adds_are_torchs_own_count() -> None:
    model = on_meta("deeplabv3plus", "xception41", output_stride=8)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 129, 97, device="meta"))
    assert billions(convolutions(model, height=129, width=97)) == pytest.approx(
        counter.get_total_flops() / 2e9, rel=1e-12
    )


def test_stages_tell_stride_rate_and_channels_in_order() -> None:
    model = on_meta("deeplabv3", "resnet50", output_stride=16)
    own = [
        convolution
        for convolution in convolutions(model, height=513, width=513)
        if convolution.name.startswith("backbone.")
    ]
    assert [tuple(stage) for stage in stages(own, height=513)] == [
        (2, 1, 64, 1),
        (4, 1, 64, 3),
        (8, 1, 128, 4),
        (16, 1, 512, 7),  # block 3, and the first unit of block 4, which carried a stride
        (16, 4, 512, 1),
        (16, 8, 512, 1),
    ]


def test_strides_are_powers_of_two_where_the_side_is_no_multiple() -> None:
    model = on_meta("deeplabv3", "mobilenetv2", output_stride=32)
    own = [
        convolution
        for convolution in convolutions(model, height=513, width=513)
        if convolution.name.startswith("backbone.")
    ]
    assert [stage.stride for stage in stages(own, height=513)] == [
        2,
        4,
        8,
        16,
        32,
    ]  # 513 / 17 is nearer to 30
