"""Whether a model is right as often as its probabilities say."""

import numpy as np

BINS = 20  # of the probability of the predicted class, each 0.05 wide


def pixels_by_confidence(
    label: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, *, ignore_index: int
) -> np.ndarray:
    """float64 BINS x 3: number of pixels, of right ones, and the sum of the confidence, for pixels whose
    predicted class has a probability in each bin. label, predicted, confidence in 0..1: H x W.
    """
    valid = label != ignore_index
    sure = confidence[valid].astype(np.float64)
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    right = label[valid] == predicted[valid]
    return np.stack(
        [
            np.bincount(bins, minlength=BINS),
            np.bincount(bins[right], minlength=BINS),
            np.bincount(bins, weights=sure, minlength=BINS),
        ],
        axis=1,
    ).astype(np.float64)
