"""Where a crop should be: not on one class alone, or on a class that is wanted."""

import numpy as np

MOST_REDRAWS = 10  # as mmsegmentation


def largest_share(label: np.ndarray, ignore_index: int) -> float:
    """The share of the commonest class in the valid pixels of a crop; 1 where there is no valid pixel."""
    counts = np.bincount(label.reshape(-1), minlength=ignore_index + 1)
    counts[ignore_index] = 0
    valid = int(counts.sum())
    return int(counts.max()) / valid if valid else 1.0


def random_pixel(label: np.ndarray, wanted: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """Row and column of a random pixel of a class; None where the label has none."""
    found = np.flatnonzero(label == wanted)
    if not len(found):
        return None
    row, column = divmod(int(found[rng.integers(len(found))]), label.shape[1])
    return row, column
