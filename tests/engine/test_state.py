import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine import state as state_module
from deeplabx.engine.state import Attempt, TrainState
from deeplabx.errors import DivergedError
from deeplabx.loss.composite import Composite
from deeplabx.loss.contract import Loss
from deeplabx.loss.cross_entropy import CrossEntropy
from deeplabx.model.norm import freeze_norm
from deeplabx.optimizer.adamw import adamw
from deeplabx.optimizer.groups import parameter_groups
from deeplabx.process.signals import StopRequest
from tests.engine.states import (
    IMAGES,
    LABELS,
    gradients_of,
    in_float64,
    model_without_noise,
    poison,
    state_of,
    taken,
)


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


# --- steps that are not finite ------------------------------------------------------------------------------


@pytest.fixture
def uninitialised_memory_is_nan() -> Iterator[None]:
    """As it may be anywhere: torch fills it with NaN in this mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def built(optimizer: str, **settings: Any) -> TrainState:
    """A state with a batch norm that is not frozen."""
    torch.manual_seed(0)
    model = deeplabx.build_model("lraspp", backbone="mobilenetv3_small", num_classes=4)
    state = state_of(model, on_nonfinite="skip", ema_decay=0.9, **settings)
    if optimizer == "adamw":
        groups = parameter_groups(model, lr=0.01, weight_decay=1e-4)
        state.optimizer = adamw(groups, beta1=0.9, beta2=0.999)
    return state


@pytest.mark.usefixtures("uninitialised_memory_is_nan")
@pytest.mark.parametrize("loss", [True, False])
@pytest.mark.parametrize("position", [1, 3, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_skipped_step_leaves_no_trace(optimizer: str, position: int, loss: bool, tmp_path: Path) -> None:
    """First, in the middle, and last before a checkpoint, from which another state goes on."""
    found, expected = built(optimizer), built(optimizer)
    for step in range(1, 5):
        if step != position:
            taken(found)
            taken(expected)
            continue
        with poison(found, loss=loss):
            assert taken(found).skipped
        expected.step += 1  # learning rate and dropout are functions of it
    assert found.skipped_in_a_row == int(position == 4)
    resumed = built(optimizer)
    checkpoints.restore(resumed, checkpoints.Checkpoint(checkpoints.save(found, tmp_path, description={})))
    for state in (found, resumed, expected):
        taken(state)
    of_found, of_resumed, of_expected = map(everything, (found, resumed, expected))
    assert of_found.keys() == of_resumed.keys() == of_expected.keys()
    for name, value in of_expected.items():
        assert torch.equal(of_found[name], value), name
        assert torch.equal(of_resumed[name], value), name
    assert (found.step, int(found.average.updates)) == (5, 4)  # type: ignore[union-attr]


def test_an_optimizer_that_is_not_fused_skips_too() -> None:
    found, expected = built("sgd"), built("sgd")
    for state in (found, expected):
        state.optimizer = torch.optim.RMSprop(
            [{"params": list(state.model.parameters()), "lr": 0.01, "base_lr": 0.01, "names": []}]
        )
    with poison(found):
        assert taken(found).skipped
    expected.step += 1
    taken(found)
    taken(expected)
    assert all(map(torch.equal, found.model.state_dict().values(), expected.model.state_dict().values()))


@pytest.mark.parametrize(
    ("loss", "words"), [(True, "the loss is inf"), (False, "the gradient's norm is nan")]
)
@pytest.mark.parametrize("position", [1, 2])
def test_a_step_that_is_not_finite_ends_the_run_before_the_weights_change(
    position: int, loss: bool, words: str
) -> None:
    state = state_of(model_without_noise())
    for _ in range(position - 1):
        taken(state)
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    with poison(state, loss=loss):
        state.update(IMAGES, LABELS)
    with pytest.raises(
        DivergedError,
        match=f"{words} at step {position}, with learning rate 0.{1 if position == 1 else '091'}\n",
    ):
        list(state.reports())
    assert all(torch.equal(value, before[name]) for name, value in state.model.named_parameters())


def test_a_report_comes_when_the_next_step_is_enqueued(tmp_path: Path) -> None:
    state = state_of(model_without_noise(), on_nonfinite="skip")
    state.update(IMAGES, LABELS)
    assert list(state.reports(behind=1)) == []
    with poison(state):
        state.update(IMAGES, LABELS)
    (first,) = state.reports(behind=1)
    assert (first.step, first.lr, first.skipped, state.skipped_in_a_row) == (1, 0.1, False, 0)
    with pytest.raises(AssertionError, match="before all steps were reported"):
        checkpoints.save(state, tmp_path, description={})
    (second,) = state.reports()
    assert (second.step, second.lr, second.skipped, state.skipped_in_a_row) == (2, 0.1 * 0.9**0.9, True, 1)
    assert list(state.reports()) == []


def test_a_model_that_stays_broken_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MOST_SKIPPED", 2)
    state = state_of(model_without_noise(), on_nonfinite="skip")
    with poison(state):
        taken(state)
        taken(state)
        with pytest.raises(DivergedError, match="at step 3, as in the 2 steps before it"):
            taken(state)


def test_fp16_reduces_its_scale_where_a_gradient_overflows_and_resumes_exactly(tmp_path: Path) -> None:
    def state() -> TrainState:
        return built("sgd", precision="fp16")

    found = state()
    assert found.scaler.get_scale() == 65536
    before = {name: value.clone() for name, value in found.model.named_parameters()}
    with poison(found, loss=False):
        assert not taken(found).skipped  # which is not an error in fp16
    assert all(torch.equal(value, before[name]) for name, value in found.model.named_parameters())
    assert found.scaler.get_scale() == 32768
    assert int(found.average.updates) == 0  # type: ignore[union-attr]
    assert all(torch.isfinite(value).all() for value in found.evaluated_model.state_dict().values())
    found.model.load_state_dict(state().model.state_dict())
    taken(found)
    resumed = state()
    checkpoints.restore(resumed, checkpoints.Checkpoint(checkpoints.save(found, tmp_path, description={})))
    assert resumed.scaler.state_dict() == found.scaler.state_dict()
    taken(found)
    taken(resumed)
    assert all(map(torch.equal, everything(found).values(), everything(resumed).values()))


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


class Noting(CrossEntropy):
    """Cross-entropy that notes the steps it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def at_step(self, step: int) -> None:
        self.steps.append(step)


def loss_and_gradients(loss: Loss, accumulate: int) -> tuple[float, dict[str, Tensor]]:
    """Of a step of a model with a loss at each of two scales; of one in two passes, too."""
    torch.manual_seed(1)
    model = deeplabx.build_model("deeplabv2", backbone="resnet18", num_classes=4, scales=[1.0, 0.5])
    freeze_norm(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    state = state_of(model.double(), accumulate=accumulate)
    state.normalization, state.loss = in_float64, loss  # type: ignore[assignment]
    kept: dict[str, Tensor] = {}
    state.take_step = lambda left_out: kept.update(gradients_of(state.model))  # type: ignore[method-assign]
    return taken(state).loss, kept


def test_each_part_of_a_loss_is_divided_as_it_says_and_weighted() -> None:
    parts: list[tuple[float, Loss]] = [(0.5, CrossEntropy()), (2.0, SoftDice())]
    found, gradients = loss_and_gradients(Composite(parts=parts), 3)
    singles = [(weight, *loss_and_gradients(one, 1)) for weight, one in parts]
    assert found == pytest.approx(sum(weight * loss for weight, loss, _ in singles), rel=1e-5)
    for name, gradient in gradients.items():
        expected = torch.stack([weight * own[name] for weight, _, own in singles]).sum(dim=0)
        most = 1e-5 * float(expected.abs().max() + 1e-12)
        assert torch.allclose(gradient, expected, rtol=1e-4, atol=most), name


def test_a_loss_is_told_the_step_before_it_and_its_parts_are() -> None:
    part = Noting()
    state = state_of(model_without_noise(), accumulate=2)
    state.loss = Composite(parts=[(1.0, part)])
    for _ in range(2):
        taken(state)
    assert part.steps == [0, 1]


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


def everything(state: TrainState) -> dict[str, Tensor]:
    of_ema = {f"ema/{name}": value for name, value in state.evaluated_model.state_dict().items()}
    tensors = {**state.model.state_dict(), **state.optimizer_tensors(), **of_ema}
    return {name: value.clone() for name, value in tensors.items()}


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
    assert all(map(torch.equal, before.values(), everything(one).values()))
    assert all(parameter.grad is None for parameter in one.model.parameters())
    for each in (one, other):
        taken(each, IMAGES.flip(0), LABELS.flip(0))
    assert all(map(torch.equal, everything(one).values(), everything(other).values()))


def test_a_signal_in_the_last_pass_finishes_the_step() -> None:
    state = state_of(model_without_noise(), accumulate=2)
    attempt = state.update(IMAGES, LABELS, stop=stop_in_pass(state, 2))
    assert (attempt.undone, attempt.stop, state.step) == (False, signal.SIGTERM, 1)


def test_a_process_without_a_batch_leaves_the_step_undone() -> None:
    state = state_of(model_without_noise())
    assert state.without_batch() == Attempt(None, undone=True)
    assert state.step == 0
