import numpy as np
import pytest
from scipy import ndimage, stats

from deeplabx.augment.blur import Blur, GaussianBlur
from deeplabx.augment.noise import GaussianNoise, Noise


@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_scipys_gaussian_filter(channels: int, sigma: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, channels), np.uint8)
    expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=4)
    found = GaussianBlur(sigma)(image)
    assert found.shape == image.shape
    assert np.abs(found - expected).max() <= 3  # OpenCV cuts the kernel of uint8 images off at 3 sigma


def test_noise_is_normal_and_independent_of_channels_and_neighbours() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    found = GaussianNoise(8.0, np.random.default_rng(1))(image).astype(float) - 128
    assert abs(found.mean()) < 0.1
    assert abs(found.std() - np.sqrt(64 + 1 / 12)) < 0.1  # rounding adds 1 / 12
    assert abs(np.corrcoef(found[..., 0].ravel(), found[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(found[1:].ravel(), found[:-1].ravel())[0, 1]) < 0.02


def test_noise_neither_wraps_below_black_nor_above_white() -> None:
    image = np.repeat(np.array([0, 255], np.uint8), 5000).reshape(100, 100, 1)
    found = GaussianNoise(20.0, np.random.default_rng(1))(image)
    assert found[:50].max() < 128
    assert found[50:].min() > 128


def test_sigma_and_std_are_uniform_in_their_ranges() -> None:
    sigmas = [Blur(1, sigma=(0.5, 2)).draw(np.random.default_rng(seed)) for seed in range(1000)]
    assert stats.kstest([one.sigma for one in sigmas if one], stats.uniform(0.5, 1.5).cdf).pvalue > 1e-3
    stds = [Noise(1, std=9).draw(np.random.default_rng(seed)) for seed in range(1000)]
    assert stats.kstest([one.std for one in stds if one], stats.uniform(0, 9).cdf).pvalue > 1e-3
    assert Blur(0, sigma=(1, 1)).draw(np.random.default_rng(0)) is None
