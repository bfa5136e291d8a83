import math

import pytest
import torch

from deeplabx.registry import build
from tests.loss.cases import IGNORE, WEIGHTS, batch, gradient, mean


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_it_is_what_the_paper_says(gamma: float, weights: list[float] | None) -> None:
    logits, labels = batch()
    total, pixels = 0.0, 0
    for scores, label in zip(
        logits.movedim(1, 3).reshape(-1, 5).tolist(), labels.flatten().tolist(), strict=True
    ):
        if label != IGNORE:
            share = math.exp(scores[label]) / sum(map(math.exp, scores))
            total -= (weights[label] if weights else 1) * (1 - share) ** gamma * math.log(share)
            pixels += 1
    loss = build("loss", "focal", gamma=gamma, class_weights=weights)
    assert float(mean(loss, logits, labels)) == pytest.approx(total / pixels, rel=1e-6)


def test_without_gamma_it_is_cross_entropy() -> None:
    logits, labels = batch()
    own = gradient(build("loss", "focal", gamma=0.0, class_weights=WEIGHTS), logits, labels)
    plain = gradient(build("loss", "cross_entropy", class_weights=WEIGHTS), logits, labels)
    assert torch.allclose(own, plain, rtol=1e-12)
