from typing import cast

import pytest
import torch

from deeplabx.model.aspp import ASPP, ImagePooling
from deeplabx.registry import build


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    aspp = ASPP(
        build("backbone", "resnet18", output_stride=output_stride),
        8,
        atrous_rates=[6, 12, 18],
        separable=False,
    )
    assert [
        module.dilation[0] for module in aspp.branches.modules() if isinstance(module, torch.nn.Conv2d)
    ] == [1, *rates, 1]


def test_branches_are_1x1_the_rates_and_image_pooling() -> None:
    aspp = ASPP(build("backbone", "resnet18", output_stride=16), atrous_rates=[6, 12, 18], separable=False)
    dilations = [
        module.dilation[0] for module in aspp.branches.modules() if isinstance(module, torch.nn.Conv2d)
    ]
    assert dilations == [1, 6, 12, 18, 1]
    assert aspp.project[0].in_channels == 5 * 256
    assert aspp.dropout.p == 0.1


def test_without_image_pooling_the_other_branches_stay() -> None:
    aspp = ASPP(
        build("backbone", "resnet18", output_stride=16),
        8,
        atrous_rates=[6, 12, 18],
        separable=False,
        image_pooling="none",
    )
    assert not [module for module in aspp.modules() if isinstance(module, ImagePooling)]
    assert aspp.project[0].in_channels == 4 * 8
    assert aspp.eval()(torch.zeros(1, 512, 5, 7)).shape == (1, 8, 5, 7)


def test_the_projections_kernel_may_be_a_3x3_of_any_width() -> None:
    aspp = ASPP(
        build("backbone", "resnet18", output_stride=16),
        8,
        atrous_rates=[6],
        separable=False,
        projection_kernel=3,
    ).eval()
    assert aspp.project[0].weight.shape == (8, 3 * 8, 3, 3)
    assert aspp(torch.zeros(1, 512, 5, 7)).shape == (1, 8, 5, 7)


def test_image_pooling_is_the_mean_at_every_place() -> None:
    pooling = ImagePooling(4, 8).eval()
    x = torch.randn(2, 4, 5, 7)
    y = pooling(x)
    assert y.shape == (2, 8, 5, 7)
    assert torch.allclose(y, y[:, :, :1, :1].expand_as(y))
    assert torch.allclose(
        y[:, :, 0, 0], pooling.project(x.mean(dim=(2, 3))[..., None, None])[..., 0, 0], atol=1e-6
    )


def test_image_pooling_over_a_crop_is_the_mean_of_every_window_of_that_side() -> None:
    aspp = ASPP(
        build("backbone", "resnet18", output_stride=16),
        8,
        atrous_rates=[6],
        separable=False,
        image_pooling=65,
    )
    pooling = cast(ImagePooling, aspp.branches[-1].eval())
    x = torch.randn(1, 512, 9, 7)
    windows = x.unfold(2, 5, 1).unfold(3, 5, 1).mean(dim=(-2, -1))  # 65 pixels are ceil(65 / 16) = 5 features
    expected = torch.nn.functional.interpolate(
        pooling.project(windows), (9, 7), mode="bilinear", align_corners=True
    )
    assert torch.allclose(pooling(x), expected, atol=1e-5)
    crop = x[:, :, :5, :5]  # of the training crop itself it is the whole mean
    assert torch.allclose(
        pooling(crop), pooling.project(crop.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, 5, 5), atol=1e-5
    )
