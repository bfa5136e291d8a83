import copy
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.engine import state as state_module
from deeplabx.engine.state import Attempt, TrainState
from deeplabx.errors import DivergedError
from deeplabx.loss.contract import Loss
from deeplabx.process.signals import StopRequest
from tests.engine.states import IMAGES, LABELS, gradients_of, in_float64, model_without_noise, state_of, taken


def gradients(accumulate: int) -> tuple[float, dict[str, Tensor]]:
    state = state_of(model_without_noise().double(), accumulate=accumulate)
    state.normalization = in_float64  # type: ignore[assignment]
    kept: dict[str, Tensor] = {}
    state.take_step = lambda left_out: kept.update(gradients_of(state.model))  # type: ignore[method-assign]
    return taken(state).loss, kept


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulation_has_the_loss_and_gradient_of_the_big_batch(accumulate: int) -> None:
    whole_loss, whole = gradients(1)
    loss, parts = gradients(accumulate)
    assert loss == pytest.approx(whole_loss, rel=1e-6)  # the loss itself is taken in float32
    for name, gradient in whole.items():
        assert torch.allclose(
            parts[name], gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max() + 1e-12)
        ), name


def test_the_loss_is_the_mean_over_the_valid_pixels_of_the_whole_batch() -> None:
    state = state_of(model_without_noise(), accumulate=3)
    images = state.normalization(IMAGES)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(state.model(images), LABELS.long(), ignore_index=255)
    update = taken(state)
    assert update.loss == pytest.approx(float(expected), rel=1e-5)
    assert update.valid == int((LABELS != 255).sum())


def test_an_all_void_batch_has_loss_zero() -> None:
    state = state_of(model_without_noise())
    assert taken(state, IMAGES, torch.full_like(LABELS, 255)).loss == 0.0


def test_the_learning_rate_of_each_step_is_the_schedules() -> None:
    state = state_of(model_without_noise())
    used = []
    for _ in range(3):
        taken(state)
        used.append(state.optimizer.param_groups[0]["lr"])
    assert used == [0.1 * (1 - step / 10) ** 0.9 for step in range(3)]


def test_dropout_is_a_function_of_seed_and_step() -> None:
    torch.manual_seed(2)
    model = deeplabx.build_model("deeplabv3", backbone="mobilenetv2", num_classes=4)
    twin, other = copy.deepcopy(model), copy.deepcopy(model)
    first = taken(state_of(model, seed=1)).loss
    torch.rand(17)  # whatever else draws from the global generator
    assert taken(state_of(twin, seed=1)).loss == first
    assert taken(state_of(other, seed=2)).loss != first


def test_clipping_bounds_the_step() -> None:
    model = model_without_noise()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    state = state_of(model, clip_norm=0.01)
    for group in state.optimizer.param_groups:
        group["weight_decay"] = 0.0
    taken(state)
    moved = (
        sum(float((value.detach() - before[name]).square().sum()) for name, value in model.named_parameters())
        ** 0.5
    )
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-2)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    model = model_without_noise()
    with torch.no_grad():
        model.get_parameter("classify.bias")[0] = float("nan")
    weight = model.get_parameter("backbone.conv1.weight")
    before = weight.clone()
    with pytest.raises(DivergedError, match="the loss is nan at step 1"):
        taken(state_of(model))
    assert torch.equal(weight, before)


def test_optimizer_tensors_are_named_by_parameter_and_come_back() -> None:
    state = state_of(model_without_noise())
    taken(state)
    tensors = {key: value.clone() for key, value in state.optimizer_tensors().items()}
    assert "backbone.conv1.weight/momentum_buffer" in tensors
    fresh = state_of(model_without_noise())
    fresh.load_optimizer_tensors(tensors)
    assert all(torch.equal(value, tensors[key]) for key, value in fresh.optimizer_tensors().items())
    assert len(fresh.optimizer_tensors()) == len(tensors)


def test_bf16_trains_in_float32_weights() -> None:
    state = state_of(model_without_noise(), precision="bf16")
    assert taken(state).loss > 0
    assert {parameter.dtype for parameter in state.model.parameters()} == {torch.float32}


def poisoned(state: TrainState, *, loss: bool) -> None:
    """Let the next updates have a loss, or only a gradient, that is not finite."""
    forward_loss = state.forward_loss

    def poison(images: Tensor, labels: Tensor) -> Tensor:
        value = forward_loss(images, labels)
        if loss:
            return value * float("inf")
        value.register_hook(lambda gradient: gradient * float("nan"))
        return value

    state.forward_loss = poison  # type: ignore[method-assign]


@pytest.mark.parametrize("loss", [True, False])
def test_a_step_that_is_not_finite_is_left_out_where_that_is_asked_for(loss: bool) -> None:
    torch.manual_seed(0)
    # Its batch norm is not frozen.
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=4)
    state = state_of(model, on_nonfinite="skip")
    taken(state)
    healthy, forward_loss = copy.deepcopy(model.state_dict()), state.forward_loss
    poisoned(state, loss=loss)
    assert taken(state).skipped
    assert state.step == 2
    assert all(torch.equal(value, healthy[name]) for name, value in model.state_dict().items())
    state.forward_loss = forward_loss  # type: ignore[method-assign]
    assert not taken(state).skipped
    assert state.skipped_in_a_row == 0


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change() -> None:
    state = state_of(model_without_noise())
    poisoned(state, loss=False)
    before = copy.deepcopy(state.model.state_dict())
    with pytest.raises(DivergedError, match="the gradient's norm is nan at step 1"):
        taken(state)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())


def test_a_model_that_stays_broken_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MOST_SKIPPED", 2)
    state = state_of(model_without_noise(), on_nonfinite="skip")
    poisoned(state, loss=True)
    taken(state)
    taken(state)
    with pytest.raises(DivergedError, match="at step 3, as in the 2 steps before it"):
        taken(state)


class SoftDice(Loss):
    """1 - Dice of each image, summed over the images that have a valid pixel."""

    per = "image"

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        valid = (labels != ignore_index)[:, None]
        truth = nn.functional.one_hot(labels.where(valid[:, 0], 0), logits.shape[1]).movedim(3, 1) * valid
        shares = logits.softmax(1) * valid
        overlap = 2 * (shares * truth).sum((1, 2, 3))
        size = (shares + truth).sum((1, 2, 3))
        return torch.where(size > 0, 1 - overlap / size.clamp(min=1e-12), 0).sum()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loss_per_image_is_divided_by_the_images_with_a_valid_pixel(accumulate: int) -> None:
    state = state_of(model_without_noise(), accumulate=accumulate)
    state.loss = SoftDice()
    with torch.no_grad():
        shares = state.model(state.normalization(IMAGES)).softmax(1)
    losses = []
    for image, label in zip(shares, LABELS, strict=True):
        valid = label != 255
        if valid.any():
            own = image[:, valid].T
            truth = nn.functional.one_hot(label[valid].long(), 4)
            losses.append(1 - 2 * float((own * truth).sum()) / float(own.sum() + truth.sum()))
    assert len(losses) == 5
    assert taken(state).loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


# --- steps that are left undone -----------------------------------------------------------------------------


def stop_in_pass(state: TrainState, number: int) -> StopRequest:
    """A request that comes in this pass of the next step."""
    stop, left, forward_loss = StopRequest(), [None] * number, state.forward_loss

    def forward(images: Tensor, labels: Tensor) -> Tensor:
        left.pop()
        stop.number = None if left else signal.SIGTERM
        return forward_loss(images, labels)

    state.forward_loss = forward  # type: ignore[method-assign]
    return stop


def everything(state: TrainState) -> list[Tensor]:
    tensors = [*state.model.state_dict().values(), *state.optimizer_tensors().values()]
    return [tensor.clone() for tensor in tensors]


@pytest.mark.parametrize(
    ("number", "settings"), [(1, {}), (2, {"ema_decay": 0.9}), (2, {"on_nonfinite": "skip"})]
)
def test_a_step_undone_between_passes_leaves_no_trace(number: int, settings: dict[str, Any]) -> None:
    def state() -> TrainState:
        torch.manual_seed(3)
        model = deeplabx.build_model("lraspp", backbone="mobilenetv3_small", num_classes=4)
        return state_of(model, accumulate=3, **settings)

    one, other = state(), state()
    taken(one)
    taken(other)
    before = everything(one)
    forward_loss = one.forward_loss
    attempt = one.update(IMAGES.flip(0), LABELS.flip(0), stop=stop_in_pass(one, number))
    one.forward_loss = forward_loss  # type: ignore[method-assign]
    assert (attempt.undone, attempt.stop, one.step) == (True, signal.SIGTERM, 1)
    assert all(map(torch.equal, before, everything(one)))
    assert all(parameter.grad is None for parameter in one.model.parameters())
    for each in (one, other):
        taken(each, IMAGES.flip(0), LABELS.flip(0))
    assert all(map(torch.equal, everything(one), everything(other)))


def test_a_signal_in_the_last_pass_finishes_the_step() -> None:
    state = state_of(model_without_noise(), accumulate=2)
    attempt = state.update(IMAGES, LABELS, stop=stop_in_pass(state, 2))
    assert (attempt.undone, attempt.stop, state.step) == (False, signal.SIGTERM, 1)


def test_a_process_without_a_batch_leaves_the_step_undone() -> None:
    state = state_of(model_without_noise())
    assert state.without_batch() == Attempt(None, undone=True)
    assert state.step == 0
