import numpy as np
import pytest
import torch
from torch import Tensor

from deeplabx.registry import build
from tests.loss.cases import IGNORE, batch, gradient, mean


def by_hand(logits: Tensor, labels: Tensor, *, alpha: float, beta: float, smooth: float) -> float:
    """The mean over images of that over the classes there, from sums over the pixels of each."""
    images = []
    for scores, label in zip(logits.numpy(), labels.numpy(), strict=True):
        valid = label != IGNORE
        own = np.exp(scores[:, valid]) / np.exp(scores[:, valid]).sum(0)
        classes = []
        for index in np.unique(label[valid]):
            of_class = label[valid] == index
            right, wrong = own[index, of_class].sum(), own[index, ~of_class].sum()
            missed = (1 - own[index, of_class]).sum()
            classes.append(1 - (right + smooth) / (right + alpha * wrong + beta * missed + smooth))
        if classes:
            images.append(np.mean(classes))
    return float(np.mean(images))


@pytest.mark.parametrize(("alpha", "beta", "smooth"), [(0.3, 0.7, 1.0), (1.0, 1.0, 0.0), (0.0, 2.0, 10.0)])
def test_tversky_is_what_the_paper_says(alpha: float, beta: float, smooth: float) -> None:
    logits, labels = batch()
    loss = build("loss", "tversky", alpha=alpha, beta=beta, smooth=smooth)
    expected = by_hand(logits, labels, alpha=alpha, beta=beta, smooth=smooth)
    assert float(mean(loss, logits, labels)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 7.0])
def test_dice_is_twice_the_overlap_over_the_sizes(smooth: float) -> None:
    logits, labels = batch()
    images = []
    for scores, label in zip(logits.softmax(1), labels, strict=True):
        classes = []
        for index in range(5):
            own, valid = (label == index).double(), label != IGNORE
            if own.any():
                sizes = float((scores[index] * valid).sum() + own.sum())
                classes.append(1 - (2 * float((scores[index] * own).sum()) + smooth) / (sizes + smooth))
        if classes:
            images.append(sum(classes) / len(classes))
    loss = build("loss", "dice", smooth=smooth)
    assert float(mean(loss, logits, labels)) == pytest.approx(sum(images) / len(images), rel=1e-12)


def test_right_predictions_have_no_loss_and_wrong_ones_all_of_it() -> None:
    labels = torch.tensor([[[0, 0, 1, 2]]])
    truth = torch.nn.functional.one_hot(labels, 3).movedim(3, 1).double()
    loss = build("loss", "dice", smooth=0.0)
    assert float(mean(loss, 1e3 * truth, labels)) == pytest.approx(0, abs=1e-12)
    assert float(mean(loss, 1e3 * truth.roll(1, dims=1), labels)) == pytest.approx(1, abs=1e-12)


def test_a_class_that_is_missed_has_a_gradient_without_smoothing() -> None:
    labels = torch.zeros(1, 3, 3, dtype=torch.int64)
    logits = torch.stack([torch.full((1, 3, 3), -30.0), torch.zeros(1, 3, 3)], dim=1)
    for name in ("dice", "tversky"):
        found = gradient(build("loss", name, smooth=0.0), logits, labels)
        assert found.isfinite().all()
        assert (found[0, 0] < 0).all()
