"""optimizer=torch: names, settings, and that a resumed run is the same run."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.config import schema
from deeplabx.config.torch_optimizers import ALGORITHMS, REFUSED, USUAL_LR
from deeplabx.engine.state import TrainState
from deeplabx.errors import ConfigError
from deeplabx.loss.cross_entropy import CrossEntropy
from deeplabx.optimizer.adamw import adamw
from deeplabx.optimizer.groups import parameter_groups
from deeplabx.optimizer.sgd import sgd
from deeplabx.optimizer.torch_optim import CLASSES, torch_optimizer
from deeplabx.run.build import schedule_of
from tests.conftest import Compose, python

torch.manual_seed(0)
IMAGES = torch.randint(0, 256, (4, 9, 9, 3), dtype=torch.uint8)
LABELS = torch.randint(0, 3, (4, 9, 9), dtype=torch.uint8)
SETTINGS: dict[str, dict[str, Any]] = {  # other than torch's own, and those that add state
    "ASGD": {"lambd": 0.01, "alpha": 0.5, "t0": 2},
    "Adafactor": {"d": 2.0, "beta2_decay": -0.7},
    "Adagrad": {"initial_accumulator_value": 0.1, "lr_decay": 0.01},
    "Adam": {"amsgrad": True, "betas": [0.8, 0.95]},
    "AdamW": {"amsgrad": True},
    "NAdam": {"decoupled_weight_decay": True},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "SGD": {"momentum": 0.9, "dampening": 0.3},
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(sgd, momentum=0.9, nesterov=True),
    "adamw": partial(adamw, beta1=0.9, beta2=0.99),
    **{name: partial(torch_optimizer, algorithm=name, settings={}) for name in CLASSES},
    **{
        f"{name} {settings}": partial(torch_optimizer, algorithm=name, settings=settings)
        for name, settings in SETTINGS.items()
    },
}


class Small(nn.Module):
    """A convolution, a depthwise one, a norm and a classifier; what a TrainState asks of a model."""

    label_stride, loss_weights = 1, (1.0,)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.classify = nn.Conv2d(4, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.norm(self.depthwise(self.first(images))).relu())

    def in_head(self, parameter: str) -> bool:
        return parameter.startswith("classify.")


def state_of(
    build: Callable[..., torch.optim.Optimizer], schedule: Callable[[int], float] = lambda step: 0.9**step
) -> TrainState:
    torch.manual_seed(1)
    model: Any = Small()
    return TrainState(
        model,
        build(parameter_groups(model, lr=0.01, weight_decay=1e-3, head_lr_factor=2)),
        loss=CrossEntropy(),
        schedule=schedule,
        max_iters=6,
        normalization=IMAGENET,
        ignore_index=255,
        device=torch.device("cpu"),
    )


def train(state: TrainState, *, to: int) -> None:
    while state.step < to:
        shift = state.step  # the batch is a function of the step
        state.update(IMAGES.roll(shift, 1), LABELS.roll(shift, 1))
        assert not any(update.skipped for update in state.reports())


def resumed(state: TrainState, fresh: TrainState) -> TrainState:
    """`fresh` as a new process has it from the checkpoint of `state`: through safetensors' bytes."""
    tensors = load(save({name: value.contiguous() for name, value in state.optimizer_tensors().items()}))
    fresh.model.load_state_dict(load(save({k: v.contiguous() for k, v in state.model.state_dict().items()})))
    fresh.load_optimizer_tensors(tensors)
    fresh.load_state_dict(state.state_dict())
    return fresh


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_is_the_same_run(name: str) -> None:
    straight, stopped = state_of(OPTIMIZERS[name]), state_of(OPTIMIZERS[name])
    train(straight, to=6)
    train(stopped, to=2)
    again = resumed(stopped, state_of(OPTIMIZERS[name]))
    train(again, to=4)
    again = resumed(again, state_of(OPTIMIZERS[name]))
    train(again, to=6)
    assert same(again.model.state_dict(), straight.model.state_dict())
    assert same(again.optimizer_tensors(), straight.optimizer_tensors())
    assert not same(again.model.state_dict(), state_of(OPTIMIZERS[name]).model.state_dict())


@pytest.mark.parametrize("name", ["poly", "step", "multistep", "cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("warmup", ["linear", "constant"])
def test_a_run_resumed_in_any_schedule_is_the_same_run(compose: Compose, name: str, warmup: str) -> None:
    iters = 0 if name == "one_cycle" else 3
    steps = [f"schedule={name}", "schedule.max_iters=6", f"schedule.warmup_iters={iters}"]
    config = compose(*steps, f"schedule.warmup={warmup}", "schedule.warmup_factor=0.2").schedule

    def fresh() -> TrainState:
        return state_of(OPTIMIZERS["sgd"], schedule_of(config))

    straight, stopped = fresh(), fresh()
    train(straight, to=6)
    train(stopped, to=2)
    again = resumed(stopped, fresh())
    train(again, to=6)
    assert same(again.model.state_dict(), straight.model.state_dict())


@pytest.mark.parametrize("name", CLASSES)
def test_an_algorithm_takes_torchs_steps(name: str) -> None:
    """Each group's own rates, compared with torch's class on the same gradients."""
    settings = SETTINGS.get(name, {})
    ours, theirs = Small(), Small()
    theirs.load_state_dict(ours.state_dict())
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    groups = parameter_groups(ours, lr=0.01, weight_decay=1e-3, head_lr_factor=2)
    mirrored = dict(theirs.named_parameters())
    rates = [
        {
            "params": [mirrored[one] for one in group["names"]],
            "lr": 0.02 if group["group"].startswith("head") else 0.01,
            "weight_decay": 0.0 if group["group"].endswith("no_decay") else 1e-3,
        }
        for group in groups
    ]
    optimizer = torch_optimizer(groups, algorithm=name, settings=settings)
    reference = getattr(torch.optim, name)(rates, foreach=False, **given)
    for _ in range(4):
        for model, steps in ((ours, optimizer), (theirs, reference)):
            steps.zero_grad()
            model(IMAGES.permute(0, 3, 1, 2) / 255).square().mean().backward()
            steps.step()
    for key, value in ours.named_parameters():
        assert torch.allclose(value, mirrored[key], rtol=1e-4, atol=1e-6), key


def test_the_table_of_names_is_what_torch_has() -> None:
    """Torch's optimizers are offered or refused, and each setting in the table is one that torch takes."""
    public = {
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }
    assert public - {"Optimizer"} == {*ALGORITHMS, *REFUSED}
    assert set(CLASSES) == set(ALGORITHMS)
    for name, rules in ALGORITHMS.items():
        parameters = inspect.signature(getattr(torch.optim, name)).parameters
        of_the_run = {"params", "lr", "weight_decay", "foreach", "fused", "maximize", "capturable"}
        assert set(rules) == set(parameters) - of_the_run - {"differentiable"}, name
        if name in USUAL_LR:
            assert USUAL_LR[name] == parameters["lr"].default
        for key, rule in rules.items():
            default = parameters[key].default
            if None not in (default if isinstance(default, tuple) else [default]):
                assert rule.allows(list(default) if isinstance(default, tuple) else default), (name, key)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm=RMSProp", r"optimizer.algorithm=RMSProp is not offered. Did you mean RMSprop\?"),
        ("algorithm=LBFGS", "LBFGS cannot be used: it computes the loss of a batch several times"),
        ("algorithm=SparseAdam", "it takes sparse gradients"),
        ("algorithm=Muon", "it takes matrices only"),
        ("algorithm=os.system", "optimizer.algorithm=os.system is not offered"),
        ("algorithm=__class__", "is not offered"),
        ("settings={momentun: 0.9}", r"momentun is not a setting of RMSprop. Did you mean momentum\?"),
        ("settings={momentum: 2}", r"momentum=2 is not a number that is at least 0 and below 1"),
        ("settings={momentum: much}", "optimizer.settings.momentum='much' is not a number"),
        ("settings={momentum: true}", "momentum=True is not a number"),
        (f"settings={{eps: {10**400}}}", r"eps=10+\.\.\.0+ is not a number that is at least 0"),
        ("settings={eps: nan}", "optimizer.settings.eps=nan is not a number that is at least 0"),
        ("settings={centered: 1}", "optimizer.settings.centered=1 is not true or false"),
        ("settings={lr: 0.1}", "optimizer.settings.lr is optimizer.lr here"),
        ("settings={weight_decay: 0.1}", "is optimizer.weight_decay here"),
        ("settings={fused: true}", "fused is not a setting of RMSprop"),
        ("algorithm=Adam settings={betas: [0.9]}", "is not a list of 2 numbers, each at least 0 and below 1"),
        ("algorithm=Adam settings={betas: [0.9,1.0]}", "is not a list of 2 numbers"),
        ("algorithm=Adafactor settings={beta2_decay: 0.8}", "is not a number that is at most 0"),
        ("algorithm=Rprop", "optimizer.algorithm=Rprop uses optimizer.lr in its first step only"),
        ("settings=3", "optimizer.settings=3 must be a table such as {KEY: VALUE}"),
    ],
)
def test_wrong_names_and_settings_are_one_line_errors(compose: Compose, override: str, words: str) -> None:
    overrides = [f"optimizer.{one}" for one in override.replace(" settings", "\0settings").split("\0")]
    chosen = [] if override.startswith("algorithm") else ["optimizer.algorithm=RMSprop"]
    with pytest.raises(ConfigError, match=words) as error:
        compose("optimizer=torch", *chosen, *overrides)
    assert "\n" not in error.value.message


def test_an_algorithm_must_be_given(compose: Compose) -> None:
    with pytest.raises(ConfigError, match="optimizer.algorithm must be given"):
        compose("optimizer=torch")


def test_rprop_trains_where_nothing_is_lost(compose: Compose) -> None:
    config = compose(
        "optimizer=torch", "optimizer.algorithm=Rprop", "schedule=constant", "optimizer.weight_decay=0"
    )
    assert isinstance(config.optimizer, schema.TorchOptimizerSettings)


@pytest.mark.parametrize("name", ["rmsprop", "NAdam"])
def test_the_name_of_an_algorithm_as_optimizer_leads_to_it(compose: Compose, name: str) -> None:
    with pytest.raises(ConfigError, match="optimizer=torch optimizer.algorithm="):
        compose(f"optimizer={name}")


def test_what_torch_does_not_accept_is_a_config_error() -> None:
    """From Python, and from a stored config, which is not checked again."""
    groups = parameter_groups(Small(), lr=0.1, weight_decay=0)
    wrong: list[dict[str, Any]] = [{"betas": [0.9, 2.0]}, {"eps": "x"}, {"no": 1}, {"foreach": True}]
    for settings in wrong:
        with pytest.raises(ConfigError, match=r"optimizer.settings"):
            torch_optimizer(groups, algorithm="Adam", settings=settings)
    with pytest.raises(ConfigError, match="optimizer.algorithm=LBFGS is not offered"):
        torch_optimizer(groups, algorithm="LBFGS", settings={})
    with pytest.raises(ConfigError, match="Nesterov"):
        torch_optimizer(groups, algorithm="SGD", settings={"nesterov": True})


class Counting(torch.optim.SGD):
    """Keeps a number beside its tensors."""

    where = "state"

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            if self.where == "group":
                group["k"] = group.get("k", 0) + 1
            for parameter in group["params"] if self.where == "state" else ():
                self.state[parameter]["count"] = 1


@pytest.mark.parametrize(
    ("where", "words"),
    [("state", "Counting keeps count as a int"), ("group", "Counting changes its setting k in each step")],
)
def test_an_optimizer_whose_state_would_be_lost_is_refused(where: str, words: str) -> None:
    kind = type("Counting", (Counting,), {"where": where})
    state = state_of(lambda groups: kind(groups))
    with pytest.raises(ConfigError, match=words):
        train(state, to=1)


STEPS = """
import sys, torch
from deeplabx.optimizer.torch_optim import CLASSES, torch_optimizer
for name in CLASSES:
    weights = torch.ones(2, 2, requires_grad=True)
    optimizer = torch_optimizer([{"params": [weights], "lr": 0.1}], algorithm=name, settings={})
    weights.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_no_algorithm_imports_the_compiler() -> None:
    assert python("-c", STEPS, cwd=Path.cwd()) == (0, "[]\n", "")
