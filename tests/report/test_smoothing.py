"""The running mean, against a loop."""

import math

import numpy as np
import pytest

from deeplabx.report.smoothing import running_mean, window_of


@pytest.mark.parametrize("count", [1, 3, 7, 31])
def test_the_running_mean_is_that_of_a_loop(count: int) -> None:
    values = np.random.default_rng(0).normal(size=20)
    values[[3, 4, 5, 11]] = math.nan
    expected = []
    for index in range(20):
        reach = min(count // 2, index, 19 - index)
        near = [one for one in values[index - reach : index + reach + 1] if math.isfinite(one)]
        expected.append(sum(near) / len(near) if near else math.nan)
    assert running_mean(values, count) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("count", "window"), [(0, 1), (1, 1), (39, 1), (40, 3), (100, 5), (12_000, 601)])
def test_the_window_is_a_twentieth_and_odd(count: int, window: int) -> None:
    assert window_of(count) == window
