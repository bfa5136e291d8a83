"""Mean and standard deviation of runs that repeat one another."""

import numpy as np
import pytest

from deeplabx.report.repeats import mean_over_folds, spread_of_runs


def test_each_fold_counts_once_however_many_seeds_it_has() -> None:
    pairs = [(0, 0.25), (0, 0.75), (1, 0.9), (0, 0.5), (2, 0.2)]
    by_hand = np.mean([np.mean([miou for fold, miou in pairs if fold == one]) for one in (0, 1, 2)])
    assert mean_over_folds(pairs) == pytest.approx(by_hand)
    assert mean_over_folds(pairs) != pytest.approx(np.mean([miou for _, miou in pairs]))


def test_the_spread_of_runs_is_of_the_sample() -> None:
    assert spread_of_runs([0.5]) is None
    assert spread_of_runs([0.5, 0.7]) == pytest.approx(np.sqrt(0.02))
