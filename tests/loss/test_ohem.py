import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deeplabx.registry import build
from tests.loss.cases import IGNORE, WEIGHTS, batch, gradient, mean


def pixel_losses(logits: Tensor, labels: Tensor, weights: list[float] | None = None) -> np.ndarray:
    """The cross-entropy of each pixel, NaN where it is ignored."""
    scores, truth = logits.numpy(), labels.numpy()
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    found = -np.take_along_axis(logs, np.where(truth == IGNORE, 0, truth)[:, None], 1)[:, 0]
    factors = np.array(weights or [1.0] * scores.shape[1])[np.where(truth == IGNORE, 0, truth)]
    return np.where(truth == IGNORE, np.nan, found * factors)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.77, 1.0])
def test_each_image_gives_the_mean_of_its_hardest_pixels(share: float, weights: list[float] | None) -> None:
    logits, labels = batch()
    total = pixels = 0.0
    for losses in pixel_losses(logits, labels, weights):
        own = sorted(losses[~np.isnan(losses)], reverse=True)
        if own:
            hardest = own[: max(1, math.floor(share * len(own) + 1e-6))]
            total, pixels = total + len(own) * sum(hardest) / len(hardest), pixels + len(own)
    loss = build("loss", "ohem", share=share, class_weights=weights)
    assert float(mean(loss, logits, labels)) == pytest.approx(total / pixels, rel=1e-6)


def released(losses: np.ndarray, share: float) -> float:
    """As DeepLab's code chooses: the largest of all pixels, of which ignored ones have 0; their mean where
    they are not 0.
    """
    flat = sorted(np.nan_to_num(losses).ravel(), reverse=True)
    chosen = flat[: int(share * len(flat))]
    return sum(chosen) / max(sum(value != 0 for value in chosen), 1e-5)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.77, 1.0])
def test_a_pass_gives_what_the_released_code_does(share: float) -> None:
    logits, labels = batch()
    loss = build("loss", "ohem", share=share, exact=False)
    expected = released(pixel_losses(logits, labels), share)
    assert float(mean(loss, logits, labels)) == pytest.approx(expected, rel=1e-9)


def test_all_pixels_are_the_cross_entropy() -> None:
    logits, labels = batch()
    for exact in (True, False):
        loss = build("loss", "ohem", share=1.0, exact=exact, label_smoothing=0.1)
        whole = build("loss", "cross_entropy", label_smoothing=0.1)
        assert torch.allclose(gradient(loss, logits, labels), gradient(whole, logits, labels), rtol=1e-12)


def test_the_share_falls_linearly_and_is_a_function_of_the_step_alone() -> None:
    loss = build("loss", "ohem", share=0.2, anneal_steps=100)
    found = []
    for step in (0, 25, 50, 100, 1000, 25):
        loss.at_step(step)
        found.append(loss.share_now)
    assert found == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2, 0.8])
    assert build("loss", "ohem", share=0.2).share_now == 0.2


def test_equal_pixels_share_what_is_left_in_any_order() -> None:
    """Of ten equal pixels half are chosen: each counts half, whatever the order."""
    logits = torch.zeros(1, 2, 1, 10, dtype=torch.float64)
    labels = torch.zeros(1, 1, 10, dtype=torch.int64)
    found = gradient(build("loss", "ohem", share=0.5), logits, labels)
    assert torch.allclose(found[0, 0], torch.full((1, 10), -0.05, dtype=torch.float64))
    logits[..., :3] = torch.tensor([[-1.0], [1.0]])[:, :, None]  # three are harder: 2 of 7 are left
    found = gradient(build("loss", "ohem", share=0.5), logits, labels)[0, 0, 0]
    assert torch.allclose(found[3:], torch.full((7,), -0.5 * 2 / 7 / 5, dtype=torch.float64))
    turned = gradient(build("loss", "ohem", share=0.5), logits.flip(3), labels)[0, 0, 0]
    assert torch.equal(turned.flip(0), found)


def test_a_tenth_of_thirty_pixels_is_three() -> None:
    logits = torch.randn(1, 2, 1, 30, dtype=torch.float64)
    labels = torch.zeros(1, 1, 30, dtype=torch.int64)
    for share, number in ((0.1, 3), (0.3, 9), (0.7, 21), (0.01, 1)):
        found = gradient(build("loss", "ohem", share=share), logits, labels)
        assert int((found[0, 0] != 0).sum()) == number
