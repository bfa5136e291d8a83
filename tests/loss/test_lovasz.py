import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplabx.loss import one_hot
from deeplabx.registry import build
from tests.loss.cases import IGNORE, batch, gradient, mean


def by_hand(logits: Tensor, labels: Tensor) -> float:
    """The mean over images of the mean over present classes; 1 - IoU of each set of largest errors, and the
    drops of the sorted errors between them, pixel by pixel.
    """
    images = []
    for scores, label in zip(logits.numpy(), labels.numpy(), strict=True):
        valid = label != IGNORE
        if not valid.any():
            continue
        powers = np.exp(scores[:, valid] - scores[:, valid].max(0))
        shares, truth = powers / powers.sum(0), label[valid]
        classes = []
        for index in np.unique(truth):
            own = truth == index
            errors = np.where(own, 1 - shares[index], shares[index])
            order = sorted(range(len(errors)), key=lambda pixel: -errors[pixel])
            value, wrong = 0.0, set()
            for position, pixel in enumerate(order):
                wrong.add(pixel)
                missed = sum(own[one] for one in wrong)
                added = len(wrong) - missed
                jaccard = 1 - (own.sum() - missed) / (own.sum() + added)
                following = errors[order[position + 1]] if position + 1 < len(order) else 0.0
                value += jaccard * (errors[pixel] - following)
            classes.append(value)
        images.append(sum(classes) / len(classes))
    return sum(images) / len(images)


@pytest.mark.parametrize("waits", [True, False])
def test_it_is_what_the_paper_says(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_hot, "waits_are_free", lambda tensor: waits)
    logits, labels = batch()
    loss = build("loss", "lovasz")
    assert float(mean(loss, logits, labels)) == pytest.approx(by_hand(logits, labels), rel=1e-12)


def test_asking_which_classes_are_there_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = batch()
    own = gradient(build("loss", "lovasz"), logits, labels)
    monkeypatch.setattr(one_hot, "waits_are_free", lambda tensor: False)
    assert torch.allclose(gradient(build("loss", "lovasz"), logits, labels), own, rtol=1e-12, atol=1e-17)


def test_with_certain_predictions_it_is_one_minus_the_mean_iou() -> None:
    """On the corners of the cube it extends, every set of predictions of a tiny image (its property)."""
    labels = torch.tensor([[[0, 0, 1, 2]]])
    for predicted in itertools.product(range(3), repeat=4):
        logits = 1e3 * torch.nn.functional.one_hot(torch.tensor([[predicted]]), 3).movedim(3, 1).double()
        ious = []
        for index in range(3):
            own, found = labels[0, 0] == index, torch.tensor(predicted) == index
            ious.append(int((own & found).sum()) / int((own | found).sum()))
        loss = mean(build("loss", "lovasz"), logits, labels)
        assert float(loss) == pytest.approx(1 - sum(ious) / 3, abs=1e-12)


def test_equal_errors_have_the_same_loss_in_any_order_and_a_gradient_that_repeats() -> None:
    labels = torch.tensor([[[0, 1, 0, 1, 1, 0]]])
    logits = torch.zeros(1, 2, 1, 6, dtype=torch.float64)
    loss = build("loss", "lovasz")
    first = gradient(loss, logits, labels)
    assert torch.equal(gradient(loss, logits, labels), first)
    turned = mean(loss, logits, labels.flip(2))
    assert float(turned) == pytest.approx(float(mean(loss, logits, labels)), rel=1e-12)


def test_the_weights_of_a_large_image_are_precise_in_float32() -> None:
    """The difference of two neighbouring 1 - IoU, as usually computed, is wrong in the third digit here."""
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 300, 300)
    labels = torch.randint(0, 3, (1, 300, 300))
    loss = build("loss", "lovasz")
    exact = gradient(loss, logits.double(), labels)
    error = (gradient(loss, logits, labels).double() - exact).abs().max() / exact.abs().max()
    assert float(error) < 2e-3
