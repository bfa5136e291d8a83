import numpy as np
from scipy import stats

from deeplabx.augment.cutout import Cutout


def test_a_hidden_square_is_filled_and_its_label_ignored_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    for seed in range(100):
        image = rng.integers(0, 100, (40, 40, 3), np.uint8)
        label = rng.integers(0, 5, (40, 40), np.uint8)
        hidden_image, hidden_label = image.copy(), label.copy()
        hole = Cutout(1, size=0.3).draw(np.random.default_rng(seed), crop_size=40)
        assert hole is not None
        hole.cut(hidden_image, hidden_label, pad_pixel=(124, 116, 104), ignore_index=255)
        hidden = hidden_label == 255
        assert (hidden_image[hidden] == (124, 116, 104)).all()
        assert np.array_equal(hidden_image[~hidden], image[~hidden])
        assert np.array_equal(hidden_label[~hidden], label[~hidden])
        rows, columns = hidden.any(1).sum(), hidden.any(0).sum()
        assert hidden.sum() == rows * columns
        assert min(rows, columns) >= 6
        assert max(rows, columns) <= 12


def test_the_middle_of_the_square_is_anywhere_with_equal_probability() -> None:
    holes = [Cutout(0.5, size=0.2).draw(np.random.default_rng(seed), crop_size=50) for seed in range(4000)]
    drawn = [hole for hole in holes if hole is not None]
    assert stats.binomtest(len(drawn), 4000, 0.5).pvalue > 1e-3
    hidden = np.bincount([row for hole in drawn for row in range(hole.top, hole.bottom)], minlength=50)
    # A row is hidden by the squares of 10 rows, but at the edges, where some of these are outside.
    expected = np.array([len(range(max(0, row - 4), min(50, row + 6))) for row in range(50)])
    assert np.abs(hidden / len(drawn) - expected / 50).max() < 0.04
