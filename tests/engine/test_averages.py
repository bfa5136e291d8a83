import copy

import pytest
import torch
from torch import nn

from deeplabx.engine.averages import EMA, SWA
from tests.engine.states import model_without_noise, state_of, taken


def test_the_average_is_that_of_a_loop_over_numbers() -> None:
    model = nn.BatchNorm2d(1)
    average = EMA(model, decay=0.25)  # type: ignore[arg-type]
    weight, mean = 1.0, 0.0  # where a batch norm begins
    for step in range(6):
        with torch.no_grad():
            model.weight.fill_(step * step)
        assert model.running_mean is not None
        model.running_mean.fill_(-step)
        assert model.num_batches_tracked is not None
        model.num_batches_tracked.fill_(step)
        average.update(model, step=1, left_out=torch.tensor(False))  # type: ignore[arg-type]
        decay = min(0.25, (1 + step) / (10 + step))  # 0.1, 2/11, 0.25, ...
        weight = decay * weight + (1 - decay) * step * step
        mean = decay * mean + (1 - decay) * -step
        found = average.model.state_dict()
        assert float(found["weight"]) == pytest.approx(weight, rel=1e-6)
        assert float(found["running_mean"]) == pytest.approx(mean, rel=1e-6)
        assert int(found["num_batches_tracked"]) == step
    assert not average.model.training


def test_what_does_not_change_is_its_own_average_to_the_bit() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(7, 11, 3)
    average = EMA(model, decay=0.9)  # type: ignore[arg-type]
    for _ in range(30):
        average.update(model, step=1, left_out=torch.tensor(False))  # type: ignore[arg-type]
    assert all(
        torch.equal(value, model.state_dict()[name]) for name, value in average.model.state_dict().items()
    )


def test_a_step_that_was_left_out_is_no_part_of_the_average() -> None:
    state = state_of(model_without_noise(), ema_decay=0.9, on_nonfinite="skip")
    assert state.average
    before = copy.deepcopy(state.evaluated_model.state_dict())
    forward_loss = state.forward_loss
    state.forward_loss = lambda *batch: forward_loss(*batch) * float("nan")  # type: ignore[method-assign]
    assert taken(state).skipped
    assert state.average.updates == 0
    state.forward_loss = forward_loss  # type: ignore[method-assign]
    taken(state)
    assert state.average.updates == 1
    for name, value in state.evaluated_model.state_dict().items():  # the first update has a decay of 0.1
        if value.is_floating_point():
            assert torch.allclose(
                value, 0.1 * before[name] + 0.9 * state.model.state_dict()[name], atol=1e-6
            ), name


def test_without_a_decay_the_model_itself_is_evaluated() -> None:
    state = state_of(model_without_noise())
    assert state.average is None
    assert state.evaluated_model is state.model


def test_swa_is_the_mean_of_the_weights_of_its_steps() -> None:
    torch.manual_seed(0)
    model = nn.BatchNorm2d(3)
    average = SWA(model, start=4, every=3)  # type: ignore[arg-type]
    weights, means = [], []
    for step in range(1, 13):
        with torch.no_grad():
            model.weight.copy_(torch.randn(3))
            model.running_mean.copy_(torch.randn(3))  # type: ignore[union-attr]
        left_out = step == 7
        average.update(model, step=step, left_out=torch.tensor(left_out))  # type: ignore[arg-type]
        found = average.model.state_dict()
        if step <= 4:
            assert torch.equal(found["weight"], model.weight)
        if step in (4, 10):  # and 7, which was left out
            weights.append(model.weight.detach().double().clone())
            means.append(model.running_mean.double().clone())  # type: ignore[union-attr]
        if step >= 4:
            for name, values in (("weight", weights), ("running_mean", means)):
                mean = torch.stack(values).mean(0)
                assert torch.allclose(found[name].double(), mean, atol=1e-6), (name, step)
    assert int(average.updates) == 2


def test_swa_of_torch_gives_the_same_average() -> None:
    state = state_of(model_without_noise(), swa_start=2, swa_every=1)
    theirs = None
    for step in range(1, 6):
        taken(state)
        if step == 1:
            continue
        if theirs is None:
            theirs = torch.optim.swa_utils.AveragedModel(state.model, use_buffers=True)
        theirs.update_parameters(state.model)
    expected = theirs.module.state_dict()  # type: ignore[union-attr]
    for name, value in state.evaluated_model.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, expected[name], atol=1e-6), name
    assert int(state.average.updates) == 4  # type: ignore[union-attr]


def test_swa_begins_anew_where_a_run_is_extended() -> None:
    model = nn.Conv2d(1, 1, 1)
    average = SWA(model, start=2, every=1)  # type: ignore[arg-type]
    for step in range(1, 5):
        average.update(model, step=step, left_out=torch.tensor(False))  # type: ignore[arg-type]
    average.start = 6
    for step in range(5, 8):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update(model, step=step, left_out=torch.tensor(False))  # type: ignore[arg-type]
    assert float(average.model.weight) == 6.5  # type: ignore[arg-type]
