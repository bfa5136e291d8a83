import pytest
import torch

from deeplabx.model.aspp import ASPP, ImagePooling, scaled_rates


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    assert scaled_rates([6, 12, 18], output_stride=output_stride) == rates


def test_a_rate_is_at_least_one() -> None:
    assert scaled_rates([1], output_stride=32) == [1]


def test_branches_are_1x1_the_rates_and_image_pooling() -> None:
    aspp = ASPP(64, 256, atrous_rates=[6, 12, 18], separable=False)
    dilations = [module.dilation[0] for module in aspp.branches.modules() if isinstance(module, torch.nn.Conv2d)]
    assert dilations == [1, 6, 12, 18, 1]
    assert aspp.project[0].in_channels == 5 * 256
    assert aspp.dropout.p == 0.1


def test_image_pooling_is_the_mean_at_every_place() -> None:
    pooling = ImagePooling(4, 8).eval()
    x = torch.randn(2, 4, 5, 7)
    y = pooling(x)
    assert y.shape == (2, 8, 5, 7)
    assert torch.allclose(y, y[:, :, :1, :1].expand_as(y))
    assert torch.allclose(y[:, :, 0, 0], pooling.project(x.mean(dim=(2, 3))[..., None, None])[..., 0, 0], atol=1e-6)
