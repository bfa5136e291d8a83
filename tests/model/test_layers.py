import pytest
import torch

from deeplabx.model.layers import rescale, resize, scaled_rates, window_mean


def test_align_corners_keeps_the_corners() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    y = resize(x, (9, 13), align_corners=True)
    assert torch.equal(y[..., ::4, ::4], x)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (161, 17)), (0.75, (241, 25)), (1.0, (321, 33))])
def test_rescaling_with_align_corners_scales_the_distance_of_the_corners(
    scale: float, size: tuple[int, int]
) -> None:
    x = torch.arange(321.0)[:, None].expand(321, 33)[None, None]
    y = rescale(x, scale, align_corners=True)
    assert y.shape[-2:] == size
    assert torch.allclose(y[0, 0, :, 0], torch.linspace(0, 320, size[0]), atol=1e-3)


def test_a_mean_over_windows_with_a_stride() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    expected = [[float(x[0, 0, top : top + 3, left : left + 3].mean()) for left in (0, 3)] for top in (0,)]
    assert torch.allclose(window_mean(x, 3, stride=(2, 3))[0, 0], torch.tensor(expected))
    assert torch.equal(window_mean(x, 9), window_mean(x, None))


def test_a_rate_is_at_least_one() -> None:
    assert scaled_rates([2, 1], output_stride=32, reference_stride=8) == [1, 1]
