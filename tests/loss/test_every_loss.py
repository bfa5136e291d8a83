"""What every loss of the project promises."""

import pytest
import torch

from deeplabx import registry
from deeplabx.loss import one_hot
from tests.engine.test_repeatable_step import Watch
from tests.loss.cases import CLASSES, IGNORE, SINGLE, Case, batch, composite, gradient, mean

every = pytest.mark.parametrize("case", SINGLE, ids=str)


def test_each_loss_is_among_the_cases() -> None:
    assert {case.name for case in SINGLE} == set(registry.OPTIONS["loss"]) - {"composite"}


@every
def test_ignored_pixels_change_neither_loss_nor_gradient(case: Case) -> None:
    logits, labels = batch()
    ignored = (labels == IGNORE)[:, None].expand_as(logits)
    loss = case.build()
    own = gradient(loss, logits, labels)
    assert not own[ignored].any()
    others = torch.where(ignored, 50 * torch.randn_like(logits), logits)
    assert torch.equal(mean(loss, others, labels), mean(loss, logits, labels))
    assert torch.equal(gradient(loss, others, labels), own)
    extreme = torch.where(ignored, 1e30, logits)
    assert torch.equal(gradient(loss, extreme, labels), own)


@every
def test_an_ignored_image_or_batch_is_zero_with_a_gradient(case: Case) -> None:
    logits, labels = batch()
    loss = case.build()
    own = gradient(loss, logits, labels)
    assert own.isfinite().all()
    assert not own[1].any()
    nothing = torch.full_like(labels, IGNORE)
    assert mean(loss, logits, nothing) == 0
    assert not gradient(loss, logits, nothing).any()


@every
def test_the_gradient_is_that_of_the_loss(case: Case) -> None:
    logits, labels = batch(size=(4, 5))
    loss = case.build()
    logits = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mean(loss, x, labels), logits, fast_mode=True)


@pytest.mark.parametrize("passes", [2, 4])
@every
def test_an_exact_loss_is_the_same_however_a_batch_is_split(case: Case, passes: int) -> None:
    logits, labels = batch()
    loss = case.build()
    whole = gradient(loss, logits, labels)
    close = torch.allclose(gradient(loss, logits, labels, passes=passes), whole, rtol=1e-12, atol=1e-15)
    assert close == loss.exact
    two = gradient(loss, logits, labels, passes=passes // 2, processes=2)
    assert torch.allclose(two, whole, rtol=1e-12, atol=1e-15) == loss.exact


@pytest.mark.parametrize("size", [1e4, 1e-4, 0.0])
@every
def test_extreme_logits_have_a_finite_loss_and_gradient(case: Case, size: float) -> None:
    logits, labels = batch()
    signs = torch.where(logits > 0, size, -size).float()
    loss = case.build()
    assert mean(loss, signs, labels).isfinite()
    assert gradient(loss, signs, labels).isfinite().all()
    right = size * torch.nn.functional.one_hot(labels.clamp(max=CLASSES - 1), CLASSES).movedim(3, 1).float()
    for logits in (right, -right):  # sure and right; sure and wrong
        assert mean(loss, logits, labels).isfinite()
        assert gradient(loss, logits, labels).isfinite().all()


@every
def test_the_order_in_memory_does_not_matter(case: Case) -> None:
    logits, labels = batch()
    loss = case.build()
    last = logits.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(mean(loss, last, labels), mean(loss, logits, labels), rtol=1e-13)
    found = gradient(loss, last, labels)
    assert torch.allclose(found, gradient(loss, logits, labels), rtol=1e-12, atol=1e-16)


@every
def test_labels_that_are_strided_and_a_wide_ignore_index_are_the_same(case: Case) -> None:
    """A model may use every eighth label only; a data set of many classes ignores 65535."""
    logits, labels = batch()
    loss = case.build()
    finer = labels.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    expected = loss(logits, labels, ignore_index=IGNORE)
    assert torch.equal(loss(logits, finer[:, ::8, ::8], ignore_index=IGNORE), expected)
    wide = torch.where(labels == IGNORE, 65535, labels)
    assert torch.equal(loss(logits, wide, ignore_index=65535), expected)


@every
def test_the_gradient_of_many_classes_is_finite_and_only_some_are_there(case: Case) -> None:
    torch.manual_seed(0)
    weights = {"class_weights": [1.0] * 150} if "class_weights" in case.settings else {}
    loss = case._replace(settings={**case.settings, **weights}).build()
    logits, labels = torch.randn(2, 150, 12, 12), torch.randint(0, 150, (2, 12, 12))
    labels[1] = 149
    assert mean(loss, logits, labels) > 0
    found = gradient(loss, logits, labels)
    assert found.isfinite().all()
    assert found.any()


@every
def test_two_classes_are_enough(case: Case) -> None:
    weights = {"class_weights": [1.0, 3.0]} if "class_weights" in case.settings else {}
    loss = case._replace(settings={**case.settings, **weights}).build()
    labels = torch.zeros(2, 6, 6, dtype=torch.int64)
    labels[1, 3:] = 1
    right = torch.nn.functional.one_hot(labels, 2).movedim(3, 1).double() * 8
    assert mean(loss, right, labels) < mean(loss, -right, labels)
    assert gradient(loss, right, labels).isfinite().all()


@every
def test_one_step_against_the_gradient_lowers_the_loss(case: Case) -> None:
    logits, labels = batch()
    loss = case.build()
    slope = gradient(loss, logits, labels)
    moved = logits - 1e-3 * slope / slope.norm()
    assert mean(loss, moved, labels) < mean(loss, logits, labels)


@every
def test_no_operator_varies_on_a_gpu_or_makes_the_host_wait(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_hot, "waits_are_free", lambda tensor: False)
    logits, labels = batch()
    loss, logits = case.build(), logits.float().requires_grad_()
    with Watch() as watch:
        loss(logits, labels, ignore_index=IGNORE).backward()
    assert not watch.found
    assert len(watch.seen) > 3


def losses_and_weights(*, scale: float) -> list[tuple[float, Case]]:
    return [(scale * (index + 1), case) for index, case in enumerate(SINGLE)]


@pytest.mark.parametrize(("passes", "processes"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_a_composite_is_the_weighted_sum_of_its_parts(passes: int, processes: int) -> None:
    logits, labels = batch()
    parts = [(weight, case) for weight, case in losses_and_weights(scale=0.3) if case.build().exact]
    whole = composite(*parts)
    assert whole.exact
    each = [weight * gradient(case.build(), logits, labels) for weight, case in parts]
    expected = torch.stack(each).sum(dim=0)
    found = gradient(whole, logits, labels, passes=passes, processes=processes)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert float(whole(logits, labels, ignore_index=IGNORE)) == pytest.approx(
        float(mean(whole, logits, labels)), rel=1e-12
    )
