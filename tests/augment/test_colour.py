import colorsys

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import stats

from deeplabx.augment.colour import ColourJitter, Colours, Grey


def an_image(seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, channels), np.uint8)


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.0, 1.3, 1.9])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_those_of_pillow(name: str, factor: float) -> None:
    enhance = {"saturation": ImageEnhance.Color}.get(name) or getattr(ImageEnhance, name.capitalize())
    expected = np.asarray(enhance(Image.fromarray(an_image())).enhance(factor))
    found = Colours(**{name: factor})(an_image())
    # Pillow cuts fractions off and rounds the mean grey value; of grey values, the two libraries differ by 1.
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("hue", [-0.5, -0.1, 0.05, 0.3])
def test_the_hue_is_shifted_on_the_circle(hue: float) -> None:
    image = an_image(1)[:12, :12]
    found = Colours(hue=hue)(image)
    expected = np.empty_like(image, dtype=float)
    for place in np.ndindex(12, 12):
        h, s, v = colorsys.rgb_to_hsv(*(image[place] / 255))
        expected[place] = np.array(colorsys.hsv_to_rgb((h + hue) % 1, s, v)) * 255
    # The hue is kept in 256 steps of the circle, of which one changes a value by up to 6; there and back.
    assert np.abs(found - expected).max() <= 9
    assert np.abs((found - expected).mean()) < 0.5


@pytest.mark.parametrize("channels", [1, 2, 5, 13])
def test_brightness_and_contrast_work_for_any_number_of_channels(channels: int) -> None:
    image = an_image(2, channels)
    found = Colours(brightness=0.8, contrast=1.4)(image)
    dark = np.rint(image * 0.8)
    assert np.array_equal(found, np.rint(1.4 * dark - 0.4 * dark.mean()).clip(0, 255))


def test_grey_is_what_pillow_makes_grey() -> None:
    found = Grey(1.0)(an_image())
    expected = np.asarray(Image.fromarray(an_image()).convert("L"))
    assert np.abs(found.astype(int) - expected[..., None]).max() <= 1


def test_factors_and_hue_are_uniform_and_drawn_with_the_given_probability() -> None:
    jitter = ColourJitter(0.4, brightness=0.3, contrast=0.5, saturation=0.0, hue=0.1)
    found = [jitter.draw(np.random.default_rng(seed)) for seed in range(4000)]
    drawn = np.array([one for one in found if one is not None])
    assert stats.binomtest(len(drawn), 4000, 0.4).pvalue > 1e-3
    for column, (centre, amount) in enumerate(((1, 0.3), (1, 0.5))):
        uniform = stats.uniform(centre - amount, 2 * amount)
        assert stats.kstest(drawn[:, column], uniform.cdf).pvalue > 1e-3
    assert (drawn[:, 2] == 1).all()
    assert stats.kstest(drawn[:, 3], stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_words_name_what_changes() -> None:
    assert Colours(1.1, 1.0, 0.9, -0.05).words == "brightness x 1.10, saturation x 0.90, hue -18 degrees"
