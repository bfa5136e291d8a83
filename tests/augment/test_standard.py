import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabx.augment.standard import Crop, StandardAugment

PAD = (124, 116, 104)


def augment(
    crop_size: int, *, flip: float = 0.5, scale_min: float = 0.5, scale_max: float = 2.0
) -> StandardAugment:
    return StandardAugment(
        crop_size=crop_size,
        scale_min=scale_min,
        scale_max=scale_max,
        flip=flip,
        pad_pixel=PAD,
        ignore_index=255,
    )


def naive(image: np.ndarray, label: np.ndarray, crop: Crop, crop_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by the book: resize the whole image, pad right and below, crop, flip."""
    size = (crop.width, crop.height)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)
    rows, columns = max(crop.height, crop_size), max(crop.width, crop_size)
    padded_image = np.tile(np.array(PAD, np.uint8), (rows, columns, 1))
    padded_label = np.full((rows, columns), 255, np.uint8)
    padded_image[: crop.height, : crop.width], padded_label[: crop.height, : crop.width] = image, label
    window = np.s_[crop.top : crop.top + crop_size, crop.left : crop.left + crop_size]
    step = -1 if crop.flip else 1
    return padded_image[window][:, ::step], padded_label[window][:, ::step]


def ties(start: int, ratio: float, crop_size: int) -> np.ndarray:
    """Where a scaled pixel's centre falls between two source pixels: its label may be either's."""
    source = (np.arange(start, start + crop_size) + 0.5) * ratio - 0.5
    return np.abs(source - np.floor(source) - 0.5) < 1 / 16


def smooth_image(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height * 1000 + width)
    image = cv2.resize(
        rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return image, rng.integers(0, 7, (height, width), dtype=np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(3, 90),
    width=st.integers(3, 90),
    crop_size=st.integers(8, 70),
    seed=st.integers(0, 10_000),
)
def test_one_warp_equals_resize_pad_crop_flip(height: int, width: int, crop_size: int, seed: int) -> None:
    image, label = smooth_image(height, width)
    transform = augment(crop_size)
    crop = transform.draw(height, width, np.random.default_rng(seed))
    got_image, got_label = transform.apply(image, label, crop)
    expected_image, expected_label = naive(image, label, crop, crop_size)
    assert np.abs(got_image.astype(int) - expected_image.astype(int)).max() <= 2
    assert ((got_label == 255) == (expected_label == 255)).all()
    clear = ~np.logical_or.outer(
        ties(crop.top, height / crop.height, crop_size), ties(crop.left, width / crop.width, crop_size)
    )
    clear = clear[:, :: -1 if crop.flip else 1]
    assert (got_label[clear] == expected_label[clear]).all()


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(2, 80),
    width=st.integers(2, 80),
    seed=st.integers(0, 10_000),
    flip=st.sampled_from([0.0, 1.0]),
)
def test_image_and_label_stay_aligned_and_no_label_is_invented(
    height: int, width: int, seed: int, flip: float
) -> None:
    rng = np.random.default_rng(seed)
    label = np.kron(rng.choice(np.array([1, 3, 255], np.uint8), (height, width)), np.ones((8, 8), np.uint8))
    image = np.repeat(label[..., None], 3, axis=2)  # the image shows its own label
    got_image, got_label = augment(33, flip=flip)(image, label, rng)
    assert set(np.unique(got_label)) <= {1, 3, 255}
    padding = (got_image == PAD).all(axis=2)
    clear = np.isin(got_image[..., 0], (1, 3, 255)) & ~padding
    inner = cv2.erode(clear.astype(np.uint8), np.ones((5, 5))) > 0
    same = got_image[..., 0] == got_label
    assert same[inner].mean() >= 0.97 if inner.any() else True


def test_a_small_image_is_padded_right_and_below() -> None:
    image, label = smooth_image(10, 12)
    got_image, got_label = augment(20, flip=0, scale_min=1, scale_max=1)(
        image, label, np.random.default_rng(0)
    )
    assert (got_image[:10, :12] == image).all()
    assert (got_label[:10, :12] == label).all()
    assert (got_image[10:] == PAD).all()
    assert (got_label[:, 12:] == 255).all()


def test_scales_are_uniform_and_crops_reach_every_corner() -> None:
    transform = augment(33)
    draws = [transform.draw(100, 100, np.random.default_rng(seed)) for seed in range(3000)]
    scales = np.array([draw.height / 100 for draw in draws])
    assert abs(scales.mean() - 1.25) < 0.03
    assert scales.min() < 0.52
    assert scales.max() > 1.98
    assert (
        {draw.top == 0 for draw in draws} == {draw.top == draw.height - 33 for draw in draws} == {True, False}
    )
    assert 0.45 < np.mean([draw.flip for draw in draws]) < 0.55


def of_channels(*pad_pixel: int) -> StandardAugment:
    return StandardAugment(
        crop_size=33, scale_min=0.5, scale_max=2.0, flip=0.5, pad_pixel=pad_pixel, ignore_index=255
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_each_channel_is_augmented_as_an_image_of_its_own(channels: int) -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (40, 30, channels), np.uint8)
    label = rng.integers(0, 9, (40, 30), np.uint8)
    crop = Crop(height=50, width=25, top=3, left=0, flip=True)
    found, _ = of_channels(*range(channels)).apply(image, label, crop)
    assert found.shape == (33, 33, channels)
    for channel in range(channels):
        alone = np.repeat(image[..., channel : channel + 1], 3, axis=2)
        expected, _ = of_channels(channel, channel, channel).apply(alone, label, crop)
        # Of 2 and of more than 4 channels, OpenCV rounds positions to 1/32 of a pixel.
        assert np.abs(found[..., channel].astype(int) - expected[..., 0]).max() <= 2 * 255 / 32
