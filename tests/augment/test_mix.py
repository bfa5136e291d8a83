import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deeplabx.augment.mix import REGIONS, Mix, half_of_classes, rectangle


def a_batch(count: int, seed: int, *, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel shows which image, row and column it is of; its label is a class, or ignore."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (count, side // 4, side // 4))
    labels = labels.repeat(4, 1).repeat(4, 2)
    images = np.zeros((count, side, side, 3), np.uint8)
    images[..., 0] = np.arange(count)[:, None, None]
    images[..., 1], images[..., 2] = np.arange(side)[:, None], np.arange(side)
    return images, labels


@settings(deadline=None, max_examples=40)
@given(count=st.integers(2, 5), seed=st.integers(0, 10_000), name=st.sampled_from(sorted(REGIONS)))
def test_a_pixel_is_pasted_with_its_label_at_its_place(count: int, seed: int, name: str) -> None:
    images, labels = a_batch(count, seed)
    kept = images.copy(), labels.copy()
    mix = Mix(REGIONS[name], p=0.7, ignore_index=255)
    found_images, found_labels = mix(images, labels, np.random.default_rng(seed))
    assert np.array_equal(images, kept[0])
    assert np.array_equal(labels, kept[1])
    source, row, column = (found_images[..., channel] for channel in range(3))
    assert (row == np.arange(24)[:, None]).all()
    assert (column == np.arange(24)).all()
    assert np.array_equal(found_labels, labels[source, row, column])
    others = [set(np.unique(one).tolist()) - {index} for index, one in enumerate(source)]
    assert max(map(len, others)) <= 1  # each image has pixels of at most one other
    assert len({(other.pop() - index) % count for index, other in enumerate(others) if other}) <= 1


def test_half_of_the_classes_are_pasted_whole_and_no_ignored_pixel() -> None:
    _, (label, *_) = a_batch(2, 1)
    chosen = []
    for seed in range(600):
        region = half_of_classes(label, 255, np.random.default_rng(seed))
        pasted = set(np.unique(label[region]).tolist())
        assert not np.isin(label[~region], list(pasted)).any()
        assert 255 not in pasted
        chosen.append(tuple(sorted(pasted)))
    pairs, counts = np.unique(chosen, axis=0, return_counts=True)
    assert len(pairs) == 6  # two of the four classes
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("values", "pasted"), [((255,), 0), ((3, 255), 1), ((1, 2, 3), 2)])
def test_half_is_rounded_up(values: tuple[int, ...], pasted: int) -> None:
    label = np.array([values], np.int32)
    assert half_of_classes(label, 255, np.random.default_rng(0)).sum() == pasted


def test_a_rectangle_has_the_proportions_of_the_image_and_a_uniform_area() -> None:
    shares = []
    for seed in range(4000):
        region = rectangle(np.zeros((40, 80)), 255, np.random.default_rng(seed))
        rows, columns = (np.asarray(region.any(axis)) for axis in (1, 0))
        assert region.sum() == rows.sum() * columns.sum()
        if not (rows[0] or rows[-1] or columns[0] or columns[-1]) and region.any():
            assert abs(columns.sum() - 2 * rows.sum()) <= 3  # of rounding
        shares.append(region.mean())
    # By hand: of a side s around a uniform middle, (1 - s / 4) s is inside, for each of two sides.
    sides = np.sqrt(np.linspace(0, 1, 10_001))
    assert abs(np.mean(shares) - np.mean(((1 - sides / 4) * sides) ** 2)) < 0.01


def test_the_probability_is_that_of_one_image() -> None:
    images, labels = a_batch(4, 0)
    mix = Mix(REGIONS["classmix"], p=0.3, ignore_index=255)
    mixed = [
        np.any(np.not_equal(found[..., 0], np.arange(4)[:, None, None]), axis=(1, 2)).sum()
        for seed in range(1000)
        for found, _ in [mix(images, labels, np.random.default_rng(seed))]
    ]
    assert stats.binomtest(int(sum(mixed)), 4000, 0.3).pvalue > 1e-3
