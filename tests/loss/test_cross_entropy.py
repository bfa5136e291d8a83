import math

import pytest
import torch

from deeplabx.registry import build


def test_cross_entropy_is_the_sum_over_valid_pixels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 4, 6), torch.randint(0, 5, (2, 4, 6))
    labels[0, :2] = 255
    expected = 0.0
    for image, label in zip(logits, labels, strict=True):
        for row in range(4):
            for column in range(6):
                if label[row, column] != 255:
                    scores = [math.exp(float(value)) for value in image[:, row, column]]
                    expected -= math.log(scores[int(label[row, column])] / sum(scores))
    assert math.isclose(
        float(build("loss", "cross_entropy")(logits, labels, ignore_index=255)), expected, rel_tol=1e-5
    )


def test_class_weights_multiply_each_pixel_and_not_the_number_of_pixels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 4, 6))
    labels[1, 1:3] = 255
    weights = [0.5, 1.0, 4.0]
    plain = build("loss", "cross_entropy")
    expected = sum(
        weight * float(plain(logits, torch.where(labels == index, labels, 255), ignore_index=255))
        for index, weight in enumerate(weights)
    )
    weighted = build("loss", "cross_entropy", class_weights=weights)
    assert math.isclose(float(weighted(logits, labels, ignore_index=255)), expected, rel_tol=1e-5)
    parts = sum(
        float(weighted(logits[one : one + 1], labels[one : one + 1], ignore_index=255)) for one in range(2)
    )
    assert math.isclose(parts, expected, rel_tol=1e-5)  # so accumulated passes add up


@pytest.mark.parametrize("keep_priors", [False, True])
def test_what_weights_make_a_network_believe_in(keep_priors: bool) -> None:
    """The best logits, the same at each of 100 pixels, are log(weight x share), and with the priors kept
    log(share).
    """
    weights, shares = torch.tensor([0.5, 1.0, 4.0]), torch.tensor([0.7, 0.2, 0.1])
    labels = torch.repeat_interleave(torch.arange(3), (100 * shares).round().long()).view(1, 10, 10)
    loss = build("loss", "cross_entropy", class_weights=weights.tolist(), keep_priors=keep_priors)
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits[None, :, None, None].expand(1, 3, 10, 10), labels, ignore_index=255) / 100
        value.backward()
        return value.detach()

    optimizer.step(closure)
    believed = shares if keep_priors else weights * shares
    assert torch.allclose(logits.softmax(0), believed / believed.sum(), atol=1e-3)


def test_a_batch_without_valid_pixels_has_loss_zero_and_a_graph() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = build("loss", "cross_entropy")(logits, torch.full((1, 4, 4), 255), ignore_index=255)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("keep_priors", [False, True])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]])
def test_label_smoothing_spreads_a_share_of_the_truth(weights: list[float] | None, keep_priors: bool) -> None:
    if keep_priors and weights is None:
        return
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randint(0, 3, (2, 4, 6))
    labels[1, 1:3] = 255
    share, expected = 0.3, 0.0
    for image, label in zip(logits, labels, strict=True):
        for row in range(4):
            for column in range(6):
                own = int(label[row, column])
                if own == 255:
                    continue
                scores = [math.exp(float(value)) for value in image[:, row, column]]
                if keep_priors and weights:
                    scores = [score * weight for score, weight in zip(scores, weights, strict=True)]
                logs = [math.log(score / sum(scores)) for score in scores]
                truth = [share / 3 + (1 - share if index == own else 0.0) for index in range(3)]
                value = -sum(part * log for part, log in zip(truth, logs, strict=True))
                expected += value * (weights[own] if weights else 1.0)
    loss = build(
        "loss", "cross_entropy", class_weights=weights, keep_priors=keep_priors, label_smoothing=share
    )
    # float32 weights: those of a loss are kept as the config has them
    assert math.isclose(float(loss(logits, labels, ignore_index=255)), expected, rel_tol=1e-6)
