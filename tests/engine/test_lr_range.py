"""The rule of the range test, on curves whose answer is known."""

import math
from itertools import pairwise

import pytest

from deeplabx.engine.lr_range import LARGEST, SMALLEST, concluded, has_diverged, rising, running_means

STEPS = 100


def curve(*, falls_at: float, diverges_at: float | None) -> list[float]:
    """A loss that falls from 2 to 1 around one learning rate, and is multiplied by ten in each step after
    another.
    """
    losses = []
    for step in range(STEPS):
        lr = SMALLEST * math.exp(math.log(LARGEST / SMALLEST) * step / (STEPS - 1))
        losses.append(1 + 1 / (1 + (lr / falls_at) ** 2))
        if diverges_at is not None and lr > diverges_at:
            losses[-1] = 100.0
            break
    return losses


def test_the_learning_rate_rises_by_the_same_factor_in_each_step() -> None:
    rates = [rising(step, steps=50) for step in range(50)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] == pytest.approx(10)
    assert {round(after / before, 9) for before, after in pairwise(rates)} == {round(1e7 ** (1 / 49), 9)}


def test_the_result_is_between_the_careful_and_the_bold_rule() -> None:
    test = concluded(curve(falls_at=1e-3, diverges_at=1.0), steps=STEPS)
    assert test.steepest is not None
    assert test.diverged_at is not None
    assert 1e-3 < test.steepest < 1e-2  # the running mean is late
    assert 1 < test.diverged_at < 1.2
    assert test.lr == pytest.approx(math.sqrt(test.steepest * test.diverged_at / 10), rel=5e-3)
    assert test.lr == float(f"{test.lr:.3g}")


def test_the_result_is_at_most_a_tenth_of_where_the_loss_diverged() -> None:
    test = concluded(curve(falls_at=1e-2, diverges_at=0.03), steps=STEPS)
    assert test.diverged_at is not None
    assert test.lr == pytest.approx(test.diverged_at / 10, rel=5e-3)


def test_without_divergence_it_is_where_the_loss_falls_fastest() -> None:
    test = concluded(curve(falls_at=1e-3, diverges_at=None), steps=STEPS)
    assert test.diverged_at is None
    assert test.lr == pytest.approx(test.steepest, rel=5e-3)
    assert len(test.steps) == STEPS


@pytest.mark.parametrize("losses", [[1.0] * 50, [1.0 + step for step in range(50)], [1.0], [math.inf]])
def test_a_loss_that_never_falls_has_no_learning_rate(losses: list[float]) -> None:
    assert concluded(losses, steps=STEPS).lr is None


def test_a_running_mean_begins_without_bias() -> None:
    assert running_means([3.0]) == pytest.approx([3.0])
    assert running_means([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert running_means([0.0, 1.0]) == pytest.approx([0.0, 0.1 / 0.19])


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([1.0, math.nan], True),
        ([math.inf], True),
        ([1.0, 0.9, 0.8], False),
        ([1.0, 15.0], True),
        ([0.0], False),
    ],
)
def test_divergence(losses: list[float], diverged: bool) -> None:
    assert has_diverged(losses) == diverged
