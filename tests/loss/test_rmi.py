import math

import numpy as np
import pytest
import torch

from deeplabx.loss import one_hot
from deeplabx.loss.rmi import Region
from deeplabx.registry import build
from tests.loss.cases import CLASSES, IGNORE, batch, gradient, mean


def pooled(plane: np.ndarray, size: int) -> np.ndarray:
    """The average of squares of `size` pixels, the image having a border of zeros of half of that."""
    bordered = np.pad(plane, size // 2)
    rows, columns = (1 + (side - size) // size for side in bordered.shape)
    return np.array(
        [
            [bordered[r * size : (r + 1) * size, c * size : (c + 1) * size].mean() for c in range(columns)]
            for r in range(rows)
        ]
    )


def covariances(y: np.ndarray, p: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of labels, prediction, and both, over all positions of a region, from a list of vectors."""
    positions = [
        (row, column) for row in range(y.shape[0] - radius + 1) for column in range(y.shape[1] - radius + 1)
    ]
    vectors = [
        np.array([plane[r : r + radius, c : c + radius].ravel() for r, c in positions]) for plane in (y, p)
    ]
    ours, theirs = (one - one.mean(0) for one in vectors)
    return ours.T @ ours, theirs.T @ theirs, ours.T @ theirs


@pytest.mark.parametrize(("radius", "downsampling"), [(3, 3), (2, 1), (3, 2), (1, 4)])
def test_the_region_term_is_the_papers_but_for_a_constant(radius: int, downsampling: int) -> None:
    logits, labels = batch(size=(13, 16))
    total = 0.0
    for scores, label in zip(logits.numpy(), labels.numpy(), strict=True):
        for index in range(CLASSES):
            own = pooled((label == index).astype(float), downsampling)
            shares = pooled(np.where(label == IGNORE, 0, 1 / (1 + np.exp(-scores[index]))), downsampling)
            y, p, both = covariances(own, shares, radius)
            unit = 5e-4 * np.eye(radius**2)
            rest = y - both @ np.linalg.inv(p + unit) @ both.T
            _, log_determinant = np.linalg.slogdet(rest + unit)
            total += (0.5 * log_determinant - 0.5 * radius**2 * np.log(5e-4)) / radius**2
    region = Region(radius=radius, downsampling=downsampling)
    assert float(region(logits, labels, ignore_index=IGNORE)) == pytest.approx(total, rel=1e-8)


def test_both_terms_are_added_up_each_divided_by_its_own() -> None:
    logits, labels = batch(size=(13, 16))
    shares = logits.sigmoid().numpy()
    valid = (labels != IGNORE).numpy()
    binary = 0.0
    for index in range(CLASSES):
        own = (labels == index).numpy()
        binary -= np.log(np.where(own, shares[:, index], 1 - shares[:, index]))[valid].sum()
    region = float(Region(radius=3, downsampling=3)(logits, labels, ignore_index=IGNORE))
    loss = build("loss", "rmi", cross_entropy_weight=0.3)
    expected = 0.3 * binary / valid.sum() + 0.7 * region / 3  # one of four images is all ignored
    assert float(mean(loss, logits, labels)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (4, 4), (65, 2)])
def test_an_image_smaller_than_a_region_has_a_finite_gradient(size: tuple[int, int]) -> None:
    logits, labels = torch.randn(2, 3, *size), torch.randint(0, 3, (2, *size))
    loss = build("loss", "rmi")
    assert float(mean(loss, logits, labels)) > 0
    assert gradient(loss, logits, labels).isfinite().all()


def test_what_the_region_term_is_for_right_predictions_and_for_none() -> None:
    """Where p = y, M is alpha I but for what alpha itself changes: half of log 2 for each class there is."""
    labels = torch.zeros(1, 30, 30, dtype=torch.int64)
    labels[0, 10:, 15:] = 1  # classes 0 and 1 of four
    right = torch.nn.functional.one_hot(labels, 4).movedim(3, 1).float() * 200 - 100
    region = Region(radius=3, downsampling=3)
    assert float(region(right, labels, ignore_index=IGNORE)) == pytest.approx(math.log(2), rel=0.01)
    assert float(region(0 * right, labels, ignore_index=IGNORE)) > 10 * math.log(2)
    assert float(region(right, torch.full_like(labels, IGNORE), ignore_index=IGNORE)) == 0


def test_float32_is_as_good_as_float64() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 60, 60), torch.randint(0, 4, (2, 6, 6))
    labels = labels.repeat_interleave(10, 1).repeat_interleave(10, 2)
    loss = build("loss", "rmi")
    exact = gradient(loss, logits.double(), labels)
    error = (gradient(loss, logits, labels).double() - exact).abs().max()
    assert float(error / exact.abs().max()) < 1e-4


def test_asking_which_classes_are_there_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = batch(size=(13, 16))
    own = gradient(build("loss", "rmi"), logits, labels)
    monkeypatch.setattr(one_hot, "waits_are_free", lambda tensor: False)
    assert torch.allclose(gradient(build("loss", "rmi"), logits, labels), own, rtol=1e-12, atol=1e-17)
