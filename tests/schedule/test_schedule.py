from functools import partial

import pytest

from deeplabx.schedule.poly import poly
from deeplabx.schedule.step import staircase


def test_poly_is_the_papers_formula() -> None:
    assert [poly(step, max_iters=4, power=0.9) for step in range(4)] == [
        (1 - step / 4) ** 0.9 for step in range(4)
    ]


def test_the_first_step_is_the_base_rate_and_no_step_is_zero() -> None:
    schedule = partial(poly, max_iters=30000, warmup_iters=0, power=0.9)
    assert schedule(0) == 1
    assert schedule(29999) > 0


def test_warm_up_is_linear_and_then_the_curve_is_as_without() -> None:
    warm = [poly(step, max_iters=100, warmup_iters=10, power=0.9) for step in range(100)]
    plain = [poly(step, max_iters=100, power=0.9) for step in range(100)]
    assert warm[4] == pytest.approx(plain[4] * 5 / 10)
    assert warm[9:] == plain[9:]


def test_a_staircase_goes_down_after_every_so_many_steps() -> None:
    schedule = partial(staircase, max_iters=6000, warmup_iters=0, every=2000, factor=0.1)
    assert [schedule(step) for step in (0, 1999, 2000, 3999, 4000, 5999)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert partial(staircase, max_iters=6, warmup_iters=4, every=2, factor=0.5)(2) == pytest.approx(
        0.75 * 0.5
    )
