import torch

from deeplabx.model.layers import scaled_rates, window_mean


def test_a_mean_over_windows_with_a_stride() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    expected = [[float(x[0, 0, top : top + 3, left : left + 3].mean()) for left in (0, 3)] for top in (0,)]
    assert torch.allclose(window_mean(x, 3, stride=(2, 3))[0, 0], torch.tensor(expected))
    assert torch.equal(window_mean(x, 9), window_mean(x, None))


def test_a_rate_is_at_least_one() -> None:
    assert scaled_rates([2, 1], output_stride=32, reference_stride=8) == [1, 1]
