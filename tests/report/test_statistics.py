from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from deeplabx.engine.record.counts import Cells, ImageCounts
from deeplabx.engine.record.record import Record
from deeplabx.report.statistics import (
    FEWEST_GROUPS,
    Fold,
    Interval,
    bootstrap,
    difference,
    holm,
)
from deeplabx.report.statistics_draws import Stratum, blocks, drawn
from deeplabx.report.statistics_units import Member, Units


def record_of(matrices: np.ndarray, *, groups: list[str] | None = None) -> Record:
    """matrices: N x C x C."""
    count, classes = matrices.shape[:2]
    flat = matrices.reshape(count, -1)
    cells = [Cells(np.flatnonzero(one), one[one > 0].astype(np.int64)) for one in flat]
    return Record(
        classes=[f"class {number}" for number in range(classes)],
        palette=[(number, 0, 0) for number in range(classes)],
        ignore_index=255,
        dataset="made up",
        split="val",
        step=1,
        names=[f"{number}.png" for number in range(count)],
        groups=groups,
        indices=np.arange(count),
        sizes=np.full((count, 2), 64),
        counts=ImageCounts.of(cells, num_classes=classes),
        details=None,
    )


def made(
    *, images: int, classes: int = 4, skill: float = 0.8, seed: int = 0, labels: int = 0, wrong: int = 0
) -> np.ndarray:
    """Confusion matrices N x C x C. labels: seed of what is labelled, the same for all models."""
    of_labels, rng = np.random.default_rng([labels, images, classes]), np.random.default_rng([seed, 7])
    pixels = of_labels.integers(50, 1000, (images, classes)) * (of_labels.random((images, classes)) < 0.7)
    hard = of_labels.normal(0, 0.1, (images, classes))
    found = np.zeros((images, classes, classes), np.int64)
    for image in range(images):
        for label in range(classes):
            right = int(
                pixels[image, label] * np.clip(skill + hard[image, label] + rng.normal(0, 0.03), 0, 1)
            )
            found[image, label, label] += right
            found[image, label, rng.integers(0, classes)] += pixels[image, label] - right
    found[:, 0, 0] += wrong
    return found


def miou(matrices: np.ndarray) -> float:
    """Of a sum of matrices, by a loop."""
    total, values = matrices.sum(axis=0), []
    for number in range(len(total)):
        union = total[number].sum() + total[:, number].sum() - total[number, number]
        if union:
            values.append(total[number, number] / union)
    return sum(values) / len(values)


# --- against a plain loop -----------------------------------------------------------------------------------


def loop(first: np.ndarray, second: np.ndarray | None, *, resamples: int) -> tuple[list[float], list[float]]:
    """Value and jackknife error, and the pivots of each resample, by sums over images."""
    sides = [(first, 1.0)] if second is None else [(first, 1.0), (second, -1.0)]
    count, classes = first.shape[:2]

    def parts(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits = np.array([np.diag(one) for one in matrices], float)
        return hits, np.array([one.sum(0) + one.sum(1) - np.diag(one) for one in matrices]) - hits * 0

    def value(matrices: Sequence[int]) -> float:
        return sum(sign * miou(one[list(matrices)]) for one, sign in sides)

    whole = value(range(count))
    left_out = [value([other for other in range(count) if other != at]) for at in range(count)]
    jackknife = np.sqrt((count - 1) * np.var(left_out))
    pivots = []
    for weights in blocks(count, resamples=resamples, generator=np.random.default_rng([3, 0])):
        for row in weights:
            chosen = np.repeat(np.arange(count), row.astype(int))
            influence = np.zeros(count)
            for matrices, sign in sides:
                hits, union = parts(matrices)
                for number in range(classes):
                    total, all_hits = union[chosen, number].sum(), hits[chosen, number].sum()
                    for at in range(count):
                        change = hits[at, number] - all_hits / total * union[at, number]
                        influence[at] += sign * change / total / classes
            error = np.sqrt(sum(influence[at] ** 2 for at in chosen) * count / (count - 1))
            pivots.append((value(chosen.tolist()) - whole) / error)
    return [whole, float(jackknife)], pivots


@pytest.mark.parametrize("pair", [False, True])
def test_pivots_and_errors_are_those_of_a_plain_loop(pair: bool) -> None:
    first, second = made(images=14, skill=0.7, seed=1, wrong=9), made(images=14, skill=0.6, seed=2, wrong=9)
    second[:, 0, 1] += first.sum(axis=(1, 2)) - second.sum(axis=(1, 2))
    units = Units.chosen(None, images=14, split="val")
    members = [Member.of(record_of(one).class_pixels, units) for one in (first, second)]
    stratum = Stratum(members if pair else members[:1], [1.0, -1.0] if pair else [1.0])
    total, _ = drawn([stratum], resamples=6, seed=3)
    (value, error), pivots = loop(first, second if pair else None, resamples=6)
    assert float(total.value) == pytest.approx(value, abs=1e-12)
    assert float(total.error) == pytest.approx(error, rel=1e-9)
    assert total.pivots == pytest.approx(pivots, rel=1e-9)


def test_pivots_of_classes_are_those_of_each_class_alone() -> None:
    """A class's IoU is the mIoU of a split of this class alone."""
    matrices = made(images=30, classes=3, seed=1)
    units = Units.chosen(None, images=30, split="val")
    whole = Member.of(record_of(matrices).class_pixels, units)
    _, classes = drawn([Stratum([whole], [1.0])], resamples=50, seed=0)
    for number in range(3):
        alone = Member(*(values[:, number : number + 1] for values in whole))
        total, _ = drawn([Stratum([alone], [1.0])], resamples=50, seed=0)
        assert classes.pivots[:, number] == pytest.approx(total.pivots, rel=1e-9)
        assert classes.error[number] == pytest.approx(float(total.error), rel=1e-9)


def test_the_interval_is_near_scipys() -> None:
    first, second = made(images=200, skill=0.8, seed=1), made(images=200, skill=0.78, seed=2)
    found = difference([Fold([record_of(first)], [record_of(second)])])

    def gain(chosen: np.ndarray, axis: int) -> np.ndarray:
        del axis
        return np.array([miou(first[one]) - miou(second[one]) for one in chosen.astype(int)])

    theirs = stats.bootstrap(
        (np.arange(200),), gain, n_resamples=400, method="percentile", vectorized=True, rng=5
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.interval.low == pytest.approx(theirs.low, abs=0.2 * width)
    assert found.interval.high == pytest.approx(theirs.high, abs=0.2 * width)
    assert found.miou == pytest.approx(miou(first) - miou(second), abs=1e-12)


# --- what is drawn ------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_intervals() -> None:
    record = record_of(made(images=40))
    assert bootstrap(record, seed=1) == bootstrap(record, seed=1)
    assert bootstrap(record, seed=1).miou != bootstrap(record, seed=2).miou


def test_groups_that_are_repeated_images_give_the_interval_of_those_images() -> None:
    matrices = made(images=20)
    alone = bootstrap(record_of(matrices), seed=4)
    groups = [f"sequence {number}" for number in range(20) for _ in range(3)]
    together = bootstrap(record_of(np.repeat(matrices, 3, axis=0), groups=groups), seed=4)
    assert (together.over, together.units) == ("groups", 20)
    assert together.miou.low < alone.miou.high
    width = alone.miou.high - alone.miou.low
    assert together.miou.high - together.miou.low == pytest.approx(width, rel=0.2)
    ignored = bootstrap(record_of(np.repeat(matrices, 3, axis=0)), seed=4)
    assert ignored.miou.high - ignored.miou.low < 0.75 * width


def test_too_few_groups_are_not_drawn_and_that_is_said() -> None:
    groups = [f"{number % (FEWEST_GROUPS - 1)}" for number in range(40)]
    found = bootstrap(record_of(made(images=40), groups=groups))
    assert (found.over, found.units) == ("images", 40)
    assert "too narrow" in found.words
    assert f"{FEWEST_GROUPS - 1} groups" in found.words
    alone = record_of(made(images=40, seed=1), groups=["a"] * 40)
    assert difference([Fold([alone], [alone])]).alike
    one = bootstrap(record_of(made(images=40), groups=["a"] * 40))
    assert "the 40 images of val belong to 1 group" in one.words


def test_a_class_in_few_images_has_no_interval_and_is_named() -> None:
    matrices = made(images=30)
    matrices[3:, 2] = 0  # labelled in three images
    matrices[:, 3] = matrices[:, :, 3] = 0  # nowhere
    found = bootstrap(record_of(matrices))
    assert found.per_class["class 2"] is None
    assert found.per_class["class 3"] is None
    assert found.per_class["class 1"] is not None
    assert "fewer than 5 images" in found.words
    assert "class 2" in found.words
    assert "class 3" not in found.words


def test_a_split_of_one_image_says_nothing() -> None:
    found = bootstrap(record_of(made(images=1, wrong=5)))
    assert found.miou == Interval(0.0, 1.0)
    assert "says nothing of others" in found.words


def test_perfect_predictions_have_an_interval_of_one_value() -> None:
    matrices = made(images=20, skill=9.0)
    assert bootstrap(record_of(matrices)).miou == Interval(1.0, 1.0)


# --- differences --------------------------------------------------------------------------------------------


def test_a_record_against_itself_is_no_difference() -> None:
    record = record_of(made(images=30))
    found = difference([Fold([record], [record])])
    assert (found.miou, found.p, found.sure, found.interval) == (0.0, 1.0, 0.5, (0.0, 0.0))


def test_a_clear_difference_is_found_and_its_mirror_image_too() -> None:
    better, worse = (record_of(made(images=60, skill=skill, seed=3)) for skill in (0.8, 0.7))
    found, mirrored = difference([Fold([better], [worse])]), difference([Fold([worse], [better])])
    assert found.p < 0.01
    assert found.sure > 0.995
    assert found.interval.low > 0
    assert mirrored.miou == -found.miou
    assert mirrored.interval.high == pytest.approx(-found.interval.low, rel=0.1)
    assert all(value is not None and value > 0 for value in found.per_class.values())
    assert not found.trainings
    assert any("noise of training (another seed) is not" in words for words in found.words)


def test_pairs_are_narrower_than_two_samples() -> None:
    """The same images are drawn for both: what makes an image hard for both cancels."""
    first, second = (record_of(made(images=80, skill=skill, seed=3)) for skill in (0.8, 0.79))
    other = record_of(made(images=80, skill=0.79, seed=3, labels=9))
    paired = difference([Fold([first], [second])]).interval
    apart = [bootstrap(one).miou for one in (first, other)]
    assert paired.high - paired.low < 0.6 * float(np.linalg.norm([one.high - one.low for one in apart]))


def test_the_noise_of_training_widens_the_interval() -> None:
    skills = (0.76, 0.80, 0.84)
    seeds = [record_of(made(images=100, skill=skill, seed=number)) for number, skill in enumerate(skills)]
    others = [replace(one) for one in seeds]
    noisy = difference([Fold(seeds, others)])
    alone = difference([Fold(seeds[:1], [record_of(made(images=100, skill=0.76, seed=9))])])
    assert noisy.trainings
    # Three of each side: Student's t of 4 degrees of freedom times the standard error of two means.
    scores = [miou(made(images=100, skill=skill, seed=number)) for number, skill in enumerate(skills)]
    expected = stats.t.ppf(0.975, 4) * np.std(scores, ddof=1) * np.sqrt(2 / 3)
    assert noisy.interval.high == pytest.approx(expected, rel=0.1)
    assert noisy.interval.high - noisy.interval.low > 1.5 * (alone.interval.high - alone.interval.low)
    same = difference([Fold(seeds, others)], paired=True)  # each training gains nothing
    assert (same.miou, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)


def test_folds_are_drawn_apart_and_averaged() -> None:
    gains = [0.04, 0.02]
    folds, expected = [], []
    for number, gain in enumerate(gains):
        first, second = (
            made(images=40 + number, skill=skill, seed=5, labels=number) for skill in (0.7 + gain, 0.7)
        )
        folds.append(Fold([record_of(first)], [record_of(second)]))
        expected.append(miou(first) - miou(second))
    found = difference(folds)
    assert found.miou == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.units == 81
    each = [difference([one]).interval for one in folds]
    expected_width = (
        float(np.linalg.norm([high - low for low, high in each])) / 2
    )  # of the mean of two that are apart
    assert found.interval.high - found.interval.low == pytest.approx(expected_width, rel=0.2)


def test_holm_is_what_its_definition_says() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}


def test_intervals_cover_the_truth() -> None:
    """A small form of benchmarks/bootstrap.py: 60 splits of 40 images from one population."""
    rng, truth = np.random.default_rng(0), made(images=4000, seed=1, labels=1)
    value = miou(truth)
    inside = 0
    for number in range(60):
        sample = truth[rng.choice(4000, 40)]
        low, high = bootstrap(record_of(sample), resamples=400, seed=number).miou
        inside += low <= value <= high
    assert 53 <= inside <= 60  # 95 % of 60 is 57, with a standard deviation of 1.7
