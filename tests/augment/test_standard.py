from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from deeplabx.augment.standard import Crop, StandardAugment
from deeplabx.errors import ConfigError

PAD = (124, 116, 104)


def augment(
    crop_size: int, *, flip: float = 0.5, scale_min: float = 0.5, scale_max: float = 2.0, **others: Any
) -> StandardAugment:
    return StandardAugment(
        crop_size=crop_size,
        scale_min=scale_min,
        scale_max=scale_max,
        flip=flip,
        pad_pixel=PAD,
        ignore_index=255,
        **others,
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
    ids = np.array([1, 3, 255], np.uint8)
    chosen = np.kron(rng.integers(0, 3, (height, width)), np.ones((8, 8), int))
    # The image shows its own label, in colours of which no two are mixed to a third.
    image, label = 255 * np.eye(3, dtype=np.uint8)[chosen], ids[chosen]
    got_image, got_label = augment(33, flip=flip)(image, label, rng)
    assert set(np.unique(got_label)) <= {1, 3, 255}
    clear = (np.sort(got_image, axis=2) == (0, 0, 255)).all(axis=2)
    inner = cv2.erode(clear.astype(np.uint8), np.ones((5, 5))) > 0
    same = ids[got_image.argmax(axis=2)] == got_label
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


# --- beyond the papers --------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "flip_vertical": 0.5,
    "turn": 0.5,
    "rotation": 40,
    "jitter": 1,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.1,
    "grey": 0.5,
    "blur": 0.5,
    "noise": 0.5,
    "noise_std": 20,
    "cutout": 0.5,
}


def before(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator, crop_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The whole augmentation as it was when runs of the first versions were trained."""
    scale = rng.uniform(0.5, 2.0)
    height, width = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    top = int(rng.integers(0, max(0, height - crop_size) + 1))
    left = int(rng.integers(0, max(0, width - crop_size) + 1))
    flip = bool(rng.random() < 0.5)
    cut_image = np.empty((crop_size, crop_size, image.shape[2]), np.uint8)
    cut_image[:] = PAD
    cut_label = np.full((crop_size, crop_size), 255, label.dtype)
    rows, columns = min(crop_size, height - top), min(crop_size, width - left)
    vertical, horizontal = image.shape[0] / height, image.shape[1] / width
    to_source = np.array(
        [
            [horizontal, 0, (left + 0.5) * horizontal - 0.5],
            [0, vertical, (top + 0.5) * vertical - 0.5],
        ],
        dtype=np.float64,
    )
    for source, target, interpolation in (
        (image, cut_image, cv2.INTER_LINEAR),
        (label, cut_label, cv2.INTER_NEAREST),
    ):
        flags = interpolation | cv2.WARP_INVERSE_MAP
        target[:rows, :columns] = cv2.warpAffine(
            source, to_source, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
    return (cut_image[:, ::-1], cut_label[:, ::-1]) if flip else (cut_image, cut_label)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(3, 90), width=st.integers(3, 90), seed=st.integers(0, 10_000))
def test_with_everything_off_the_result_and_what_is_drawn_are_as_they_were(
    height: int, width: int, seed: int
) -> None:
    image, label = smooth_image(height, width)
    rng, rng_before = np.random.default_rng(seed), np.random.default_rng(seed)
    found, expected = augment(33)(image, label, rng), before(image, label, rng_before, 33)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert rng.bit_generator.state == rng_before.bit_generator.state


@pytest.mark.parametrize("left_out", EVERYTHING)
def test_what_one_operator_draws_does_not_depend_on_the_others(left_out: str) -> None:
    image, label = smooth_image(60, 80)
    off = {**EVERYTHING, left_out: 0}
    for seed in range(8):
        plans = []
        for settings_of in (EVERYTHING, off):
            rng = np.random.default_rng(seed)
            plan = augment(33, **settings_of).plan(image, label, rng)
            changes: dict[str, Any] = {type(one).__name__: one for one in plan.changes}
            plans.append((plan.crop._asdict(), changes, plan.hole, rng.random()))
        (crop, changes, hole, following), (other_crop, other_changes, other_hole, other_following) = plans
        other_name = {"turn": "quarter_turns", "rotation": "degrees"}.get(left_out, left_out)
        assert {key for key in crop if crop[key] != other_crop[key]} <= {other_name}
        for name in changes.keys() & other_changes.keys():
            one, other = changes[name], other_changes[name]
            if name == "GaussianNoise":
                assert one.std == other.std or left_out == "noise_std"
                assert one.rng.random() == other.rng.random()
            elif name == "Colours":
                differ = [key for key in one._fields if getattr(one, key) != getattr(other, key)]
                assert differ in ([], [left_out])
            elif name != "Grey":
                assert one == other
        assert left_out == "cutout" or hole == other_hole
        assert following == other_following


def slow_rotation(
    image: np.ndarray, label: np.ndarray, crop: Crop, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By the book, and by scipy: resize the whole image, put it on a large canvas, rotate that about the
    middle of what the window shows, cut the window out. Also where the label's edges are.
    """
    wide = 2 * size
    rows, columns = min(size, crop.height - crop.top), min(size, crop.width - crop.left)
    middle = np.array([crop.top + rows / 2, crop.left + columns / 2]) + wide - 0.5
    angle = np.deg2rad(crop.degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # of (row, column)
    layers = [cv2.resize(image, (crop.width, crop.height), interpolation=cv2.INTER_LINEAR)[..., 0]]
    layers.append(cv2.resize(label, (crop.width, crop.height), interpolation=cv2.INTER_NEAREST_EXACT))
    found = []
    for layer, outside, order in zip(layers, (PAD[0], 255), (1, 0), strict=True):
        canvas = np.pad(layer, wide, constant_values=outside)
        rotated = ndimage.affine_transform(
            canvas, turn, middle - turn @ middle, order=order, cval=outside, output=np.float64
        )
        found.append(rotated)
    found.append(ndimage.morphological_gradient(found[1], size=5) > 0)
    image, label, edges = (layer[wide + crop.top :, wide + crop.left :][:size, :size] for layer in found)
    return image, label, edges


@pytest.mark.parametrize("shape", [(90, 120), (140, 70), (20, 30)])
def test_one_warp_equals_resize_pad_rotate_crop(shape: tuple[int, int]) -> None:
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    image = (128 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 11)).astype(np.uint8)[..., None].repeat(3, 2)
    label = (image[..., 0] // 64).astype(np.uint8)
    for seed in range(12):
        transform = augment(40, rotation=180, flip=0)
        crop = transform.plan(image, label, np.random.default_rng(seed)).crop
        got_image, got_label = transform.apply(image, label, crop)
        expected_image, expected_label, edges = slow_rotation(image, label, crop, 40)
        assert np.array_equal(got_label[~edges], expected_label[~edges])  # 2 pixels from each edge
        inside = ~edges & (expected_label != 255)
        # A second interpolation smooths a little more.
        assert np.abs(got_image[..., 0][inside] - expected_image[inside]).max(initial=0) <= 2
        assert (got_image[~edges & (expected_label == 255)] == PAD).all()
        assert ((got_label == 255) <= (got_image == PAD).all(2)).all()


def test_rotations_turns_and_flips_have_the_distribution_that_their_settings_say() -> None:
    transform = augment(33, rotation=20, turn=0.6, flip_vertical=0.3)
    image, label = smooth_image(50, 50)
    crops = [transform.plan(image, label, np.random.default_rng(seed)).crop for seed in range(3000)]
    degrees = np.array([crop.degrees for crop in crops])
    assert stats.kstest(degrees, stats.uniform(-20, 40).cdf).pvalue > 1e-3
    turns = np.bincount([crop.quarter_turns for crop in crops], minlength=4)
    assert stats.chisquare(turns, [1200, 600, 600, 600]).pvalue > 1e-3
    assert stats.binomtest(sum(crop.flip_vertical for crop in crops), 3000, 0.3).pvalue > 1e-3
    assert abs(np.corrcoef(degrees, [crop.flip_vertical for crop in crops])[0, 1]) < 0.07


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_counter_clockwise_and_move_no_pixel(turns: int) -> None:
    image, label = smooth_image(33, 33)
    transform = augment(33)
    crop = Crop(33, 33, 0, 0, flip=False, quarter_turns=turns)
    got_image, got_label = transform.apply(image, label, crop)
    assert np.array_equal(got_label, np.rot90(label, turns))
    assert np.array_equal(got_image, np.rot90(image, turns))
    flipped, _ = transform.apply(image, label, crop._replace(quarter_turns=0, flip_vertical=True))
    assert np.array_equal(flipped, image[::-1])


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(5, 90),
    width=st.integers(5, 90),
    seed=st.integers(0, 10_000),
    channels=st.sampled_from([1, 2, 3, 4, 7]),
    wide=st.booleans(),
)
def test_all_on_no_label_is_invented_and_the_label_stays_within_half_a_pixel(
    height: int, width: int, seed: int, channels: int, wide: bool
) -> None:
    """The first and last channel show the row and the column, and the label is their number."""
    rows, columns = np.mgrid[:height, :width]
    image = np.zeros((height, width, channels), np.uint8)
    image[..., -1] = columns
    image[..., 0] = rows
    label = (rows * width + columns).astype(np.uint16)
    if not wide:
        label = rows.astype(np.uint8)
    ignore_index = 65535 if wide else 255
    geometry: dict[str, Any] = {
        "rotation": 60,
        "turn": 0.5,
        "flip_vertical": 0.5,
        "cutout": 0.5,
        "cat_max_ratio": 0.5,
    }
    transform = StandardAugment(
        crop_size=33,
        scale_min=0.5,
        scale_max=2.0,
        flip=0.5,
        pad_pixel=(255,) * channels,
        ignore_index=ignore_index,
        **geometry,
    )
    got_image, got_label = transform(image, label, np.random.default_rng(seed))
    assert got_image.dtype == np.uint8
    assert got_label.dtype == label.dtype
    assert (got_image.shape, got_label.shape) == ((33, 33, channels), (33, 33))
    shown = got_label != ignore_index
    assert set(np.unique(got_label[shown])) <= set(np.unique(label))
    assert (got_image[~shown] == 255).all()
    values = got_label[shown].astype(int)
    row, column = np.divmod(values, width) if wide else (values, None)
    # Half a pixel of the label, half a grey level of rounding, and OpenCV's positions in steps of 1/32
    assert np.abs(got_image[shown][:, 0].astype(int) - row).max(initial=0) <= 1
    if wide and channels > 1:
        assert np.abs(got_image[shown][:, -1].astype(int) - column).max(initial=0) <= 1


def test_colours_change_the_image_but_neither_padding_nor_label() -> None:
    image, label = smooth_image(20, 20)
    plain = augment(40, scale_min=1, scale_max=1, flip=0)
    changed = augment(40, scale_min=1, scale_max=1, flip=0, jitter=1, brightness=0.5, noise=1, noise_std=9)
    for rotation in (0, 30):
        plain.rotation = changed.rotation = rotation
        images, labels = zip(
            *(one(image, label, np.random.default_rng(2)) for one in (plain, changed)), strict=True
        )
        assert np.array_equal(*labels)
        outside = labels[0] == 255
        assert outside.any()
        assert (images[1][outside] == PAD).all()
        assert (images[0] != images[1])[~outside].mean() > 0.9


@pytest.mark.parametrize("channels", [1, 4])
def test_colours_of_other_than_rgb_images_are_refused(channels: int) -> None:
    others: dict[str, Any] = {"crop_size": 33, "scale_min": 1, "scale_max": 1, "flip": 0, "ignore_index": 255}
    pad_pixel = (0,) * channels
    wrongs: list[dict[str, Any]] = [
        {"grey": 0.1},
        *({"jitter": 0.5, one: 0.1} for one in ("hue", "saturation")),
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=f"the images have {channels} channels"):
            StandardAugment(pad_pixel=pad_pixel, **others, **wrong)
    fine = StandardAugment(
        pad_pixel=pad_pixel, jitter=1, contrast=0.5, blur=1, noise=1, noise_std=5, **others
    )
    image = np.random.default_rng(0).integers(0, 256, (40, 40, channels), np.uint8)
    got_image, _ = fine(image, image[..., 0], np.random.default_rng(0))
    assert got_image.shape == (33, 33, channels)


def test_a_crop_of_one_class_is_drawn_again_up_to_ten_times() -> None:
    label = np.zeros((200, 200), np.uint8)
    label[:, 150:] = 1
    image = np.repeat(label[..., None], 3, axis=2)
    options: dict[str, Any] = {"scale_min": 1, "scale_max": 1, "flip": 0}
    shares = {}
    for ratio in (None, 0.75):
        transform = augment(40, cat_max_ratio=ratio, **options)
        cuts = [transform(image, label, np.random.default_rng(seed))[1] for seed in range(300)]
        shares[ratio] = np.array([max(np.mean(cut), 1 - np.mean(cut)) for cut in cuts])
    # Columns 0 to 160 are possible; of them those from 121 to 139 show at least a quarter of both classes.
    once = np.mean([0.25 <= np.clip(left - 110, 0, 40) / 40 <= 0.75 for left in range(161)])
    assert abs((shares[None] <= 0.75).mean() - once) < 0.08
    assert abs((shares[0.75] <= 0.75).mean() - (1 - (1 - once) ** 11)) < 0.08


def test_a_crop_around_a_class_shows_it_wherever_it_is() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        height, width = rng.integers(20, 150, 2)
        label = np.zeros((height, width), np.uint8)
        label[rng.integers(height - 3) :, rng.integers(width - 3) :][:4, :4] = 1
        image = np.repeat(label[..., None], 3, axis=2)
        transform = augment(33, scale_min=1, scale_max=2, rotation=0 if seed % 2 else 20)
        _, cut = transform.around(image, label, np.random.default_rng(seed), 1)
        touches_edge = label[0].any() or label[-1].any() or label[:, 0].any() or label[:, -1].any()
        assert 1 in cut or (not seed % 2 and touches_edge)
    _, without = transform.around(image * 0, label * 0, np.random.default_rng(0), 1)
    assert without.shape == (33, 33)


def test_a_class_is_shown_at_every_place_of_the_crop() -> None:
    label = np.zeros((300, 300), np.uint8)
    label[150, 150] = 1
    transform = augment(30, scale_min=1, scale_max=1, flip=0)
    image = np.repeat(label[..., None], 3, axis=2)
    cuts = [transform.around(image, label, np.random.default_rng(seed), 1)[1] for seed in range(2000)]
    rows = [int(np.argmax(cut.any(1))) for cut in cuts]
    assert all(cut.any() for cut in cuts)
    assert stats.chisquare(np.bincount(rows, minlength=30)).pvalue > 1e-3


def test_what_was_drawn_is_said_in_words_with_the_same_result() -> None:
    image, label = smooth_image(60, 80)
    said: set[str] = set()
    for seed in range(40):
        transform = augment(33, **EVERYTHING)
        found = transform.described(image, label, np.random.default_rng(seed))
        expected = transform(image, label, np.random.default_rng(seed))
        assert all(np.array_equal(found[index], expected[index]) for index in range(2))
        assert found[2][0].startswith("scale ")
        assert found[2][1].startswith("crop at row ")
        said |= {word.split(" of ")[0].split(" by ")[0].split(" x ")[0] for word in found[2][2:]}
    assert said == {
        *(
            "rotated",
            "brightness",
            "grey",
            "blur",
            "noise",
            "cutout",
            "flipped",
            "flipped vertically",
            "turned",
        )
    }
