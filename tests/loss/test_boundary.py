import itertools
import math

import pytest
import torch
from torch import Tensor

from deeplabx.registry import build
from tests.loss.cases import IGNORE, batch, mean


def weights_by_hand(label: Tensor, *, amount: float, sigma: float, ignored_edges: bool) -> Tensor:
    """From the distance of every pixel to every boundary pixel."""
    height, width = label.shape
    pixels = list(itertools.product(range(height), range(width)))

    def is_boundary(row: int, column: int) -> bool:
        own = int(label[row, column])
        around = [
            int(label[r, c])
            for r, c in pixels
            if max(abs(r - row), abs(c - column)) == 1 and (ignored_edges or label[r, c] != IGNORE)
        ]
        return own != IGNORE and any(other != own for other in around)

    edges = [pixel for pixel in pixels if is_boundary(*pixel)]
    found = torch.ones(height, width, dtype=torch.float64)
    for row, column in pixels:
        nearest = min((max(abs(r - row), abs(c - column)) for r, c in edges), default=math.inf)
        if nearest <= math.ceil(3 * sigma):
            found[row, column] += amount * math.exp(-(nearest**2) / (2 * sigma**2))
    return found


@pytest.mark.parametrize("ignored_edges", [False, True])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_pixels_count_by_their_distance_to_a_boundary(sigma: float, ignored_edges: bool) -> None:
    logits, _ = batch(size=(11, 13))
    labels = torch.zeros(4, 11, 13, dtype=torch.int64)
    labels[0, 5:, 7:] = 3
    labels[0, 2:4, 10:] = IGNORE
    labels[1, 4] = IGNORE  # a border that is ignored, as VOC has them
    labels[1, 5:] = 2
    labels[2] = IGNORE
    losses = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    own = {"amount": 3.0, "sigma": sigma, "ignored_edges": ignored_edges}
    weights = torch.stack([weights_by_hand(label, **own) for label in labels])  # type: ignore[arg-type]
    expected = float((losses * weights).sum() / (labels != IGNORE).sum())
    found = float(mean(build("loss", "boundary", **own), logits, labels))
    assert found == pytest.approx(expected, rel=1e-6)


def test_without_a_boundary_it_is_cross_entropy() -> None:
    logits, labels = batch()
    labels = torch.where(labels == IGNORE, IGNORE, 1)
    plain, own = build("loss", "cross_entropy"), build("loss", "boundary")
    assert torch.equal(mean(own, logits, labels), mean(plain, logits, labels))
    assert mean(build("loss", "boundary", ignored_edges=True), logits, labels) > mean(plain, logits, labels)
