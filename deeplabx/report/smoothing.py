"""Running means of noisy curves."""

import numpy as np

SMOOTHED = 20  # a point of the smoothed loss is the mean over this part of the logged values


def window_of(count: int) -> int:
    """How many of `count` values the mean around each takes, an odd number."""
    return max(1, count // SMOOTHED) // 2 * 2 + 1


def running_mean(values: np.ndarray, count: int) -> np.ndarray:
    """The mean of `count` values around each, an odd number; of fewer towards both ends, so that it never
    looks to one side only. Of those that are finite, nan where none is.
    """
    finite, index = np.isfinite(values), np.arange(len(values))
    sums, counts = (
        np.concatenate([[0.0], np.cumsum(one)])
        for one in (np.where(finite, values, 0.0), finite.astype(float))
    )
    reach = np.minimum(count // 2, np.minimum(index, len(values) - 1 - index))
    total = sums[index + reach + 1] - sums[index - reach]
    number = counts[index + reach + 1] - counts[index - reach]
    return np.divide(total, number, out=np.full(len(values), np.nan), where=number > 0)
