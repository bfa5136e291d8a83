import math
import re
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch

from deeplabx import registry
from deeplabx.errors import ConfigError
from deeplabx.run.build import schedule_of
from deeplabx.run.resolve import resolved
from deeplabx.schedule import warmup
from deeplabx.schedule.cosine import cosine
from deeplabx.schedule.multistep import multistep
from deeplabx.schedule.one_cycle import one_cycle
from deeplabx.schedule.poly import poly
from deeplabx.schedule.step import staircase
from tests.conftest import TINY, Compose

STEPS = 60
NAMES = sorted(registry.OPTIONS["schedule"])
lr = torch.optim.lr_scheduler


def test_poly_is_the_papers_formula() -> None:
    assert [poly(step, max_iters=4, power=0.9) for step in range(4)] == [
        (1 - step / 4) ** 0.9 for step in range(4)
    ]


def test_the_first_step_is_the_base_rate_and_no_step_is_zero() -> None:
    schedule = partial(poly, max_iters=30000, power=0.9)
    assert schedule(0) == 1
    assert schedule(29999) > 0


def test_a_staircase_goes_down_after_every_so_many_steps() -> None:
    schedule = partial(staircase, max_iters=6000, every=2000, factor=0.1)
    assert [schedule(step) for step in (0, 1999, 2000, 3999, 4000, 5999)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_milestones_are_shares_of_the_run() -> None:
    table = [1.0] * 60 + [0.5] * 30 + [0.25] * 10
    assert [multistep(step, max_iters=100, milestones=[0.6, 0.9], factor=0.5) for step in range(100)] == table
    thirds = partial(multistep, max_iters=100, milestones=[0.07, 0.29], factor=0.5)  # not 8, not 28
    assert [step for step in range(1, 100) if thirds(step) != thirds(step - 1)] == [7, 29]


def torchs(scheduler: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    """The learning rates that one of torch's schedulers gives the steps, of a base learning rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: SequentialLR gives its parts a step
        steps = scheduler(optimizer)
        found = []
        for _ in range(STEPS):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            steps.step()
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (partial(poly, power=0.9), partial(lr.PolynomialLR, total_iters=STEPS, power=0.9)),
        (partial(staircase, every=25, factor=0.3), partial(lr.StepLR, step_size=25, gamma=0.3)),
        (
            partial(multistep, milestones=[0.5, 0.75], factor=0.2),
            partial(lr.MultiStepLR, milestones=[30, 45], gamma=0.2),
        ),
        (partial(cosine, end_factor=0.01), partial(lr.CosineAnnealingLR, T_max=STEPS, eta_min=0.01)),
        *(
            (
                partial(one_cycle, rise=0.3, start_factor=0.1, end_factor=1e-3, shape=shape),
                partial(
                    lr.OneCycleLR,
                    max_lr=1.0,
                    total_steps=STEPS + 1,
                    pct_start=0.3,
                    div_factor=10,
                    final_div_factor=100,
                    anneal_strategy=theirs,  # type: ignore[arg-type]
                ),
            )
            for shape, theirs in (("cosine", "cos"), ("linear", "linear"))
        ),
    ],
)
def test_a_schedule_is_that_of_torch(ours: Callable[..., float], theirs: Callable[..., Any]) -> None:
    steps = STEPS + 1 if theirs.func is lr.OneCycleLR else STEPS  # type: ignore[attr-defined]
    assert [ours(step, max_iters=steps) for step in range(STEPS)] == pytest.approx(torchs(theirs), rel=1e-9)


def released(step: int, *, base: float, steps: int, slow: int, slow_lr: float, end: float) -> float:
    """The learning rate of the released DeepLab code (poly), from the documentation of TensorFlow's
    polynomial_decay.
    """
    if step < slow:
        return slow_lr
    decayed = min(step - slow, steps - slow)
    return (base - end) * (1 - decayed / (steps - slow)) ** 0.9 + end


def test_slow_start_is_that_of_the_released_code(compose: Compose) -> None:
    config = compose(
        "optimizer.lr=0.007",
        "schedule.max_iters=50",
        "schedule.warmup=constant",
        "schedule.warmup_iters=8",
        "schedule.warmup_factor=0.0142857142857",
        "schedule.end_factor=0.001",
    )
    schedule = schedule_of(config.schedule)
    assert [0.007 * schedule(step) for step in range(50)] == pytest.approx(
        [released(step, base=0.007, steps=50, slow=8, slow_lr=1e-4, end=7e-6) for step in range(50)]
    )


@pytest.mark.parametrize("start", [None, 0.25])
def test_a_linear_warm_up_multiplies_the_schedule(start: float | None) -> None:
    plain = partial(poly, max_iters=STEPS, power=0.9)
    ramp = torchs(partial(lr.LinearLR, start_factor=1 / 10 if start is None else start, total_iters=9))
    warm = partial(warmup.linear, schedule=plain, warmup_iters=10, warmup_factor=start)
    assert [warm(step) for step in range(STEPS)] == pytest.approx(
        [factor * plain(step) for step, factor in enumerate(ramp)]
    )
    assert [warm(step) for step in range(10, STEPS)] == [plain(step) for step in range(10, STEPS)]


def test_a_warm_up_of_one_step_has_its_factor() -> None:
    warm = partial(warmup.linear, schedule=lambda step: 1.0, warmup_iters=1, warmup_factor=0.5)
    assert [warm(0), warm(1)] == [0.5, 1.0]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_stays_in_range_and_never_reaches_zero(
    compose: Compose, name: str, steps: int
) -> None:
    schedule = schedule_of(compose(f"schedule={name}", f"schedule.max_iters={steps}").schedule)
    factors = [schedule(step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    if name != "one_cycle":
        assert factors[0] == 1
        assert all(after <= before for before, after in pairwise(factors))
    elif steps == 100:
        assert max(factors) == 1 == factors[29]
        assert (factors[0], factors[99]) == pytest.approx((0.04, 4e-6))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "one_cycle"])
@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_every_schedule_is_warmed_up(compose: Compose, name: str, kind: str) -> None:
    chosen = [f"schedule={name}", "schedule.max_iters=100"]
    warm = schedule_of(
        compose(
            *chosen,
            f"schedule.warmup={kind}",
            "schedule.warmup_iters=20",
            "schedule.warmup_factor=0.1",
        ).schedule
    )
    plain = schedule_of(compose(*chosen, *(["schedule.max_iters=80"] if kind == "constant" else [])).schedule)
    first = [warm(step) for step in range(20)]
    assert first[0] == pytest.approx(0.1)
    if kind == "constant":
        assert set(first) == {0.1}
        assert [warm(step) for step in range(20, 100)] == [plain(step) for step in range(80)]
    else:
        assert first[19] == pytest.approx(plain(19))  # no jump where it ends
        assert [warm(step) for step in range(20, 100)] == [plain(step) for step in range(20, 100)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("schedule=multistep schedule.milestones=[0.9,0.6]", r"milestones=\[0.9, 0.6\] is not increasing"),
        ("schedule=multistep schedule.milestones=[0.5,0.5]", "is not increasing"),
        ("schedule=multistep schedule.milestones=[0.5,1]", "schedule.milestones=1.0 is out of range"),
        ("schedule=multistep schedule.milestones=[60000]", "must be above 0 and below 1"),
        ("schedule=multistep schedule.milestones=[]", "is empty"),
        ("schedule=multistep schedule.milestones=[nan]", "not a finite number"),
        ("schedule=one_cycle schedule.warmup_iters=2", "one_cycle has its own warm-up"),
        ("schedule=one_cycle schedule.shape=square", "is not one of cosine, linear"),
        ("schedule=one_cycle schedule.rise=1", "schedule.rise=1.0 is out of range"),
        ("schedule.warmup=constant schedule.warmup_iters=2", "needs schedule.warmup_factor"),
        ("schedule.warmup=const", r"Did you mean constant\?"),
        ("schedule.warmup_factor=0", "schedule.warmup_factor=0.0 is out of range"),
        ("schedule.end_factor=1.5", "at least 0 and at most 1"),
        ("schedule=constant schedule.power=1", "schedule.power is not a setting of the schedule chosen"),
        ("schedule=cosin", r"Did you mean cosine\?"),
        ("schedule.warmup_iters=50 schedule.max_iters=50", "must be smaller than schedule.max_iters=50"),
    ],
)
def test_wrong_settings_of_a_schedule_are_one_line_errors(
    compose: Compose, overrides: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        compose(*overrides.split())
    assert "\n" not in error.value.message


def test_a_warm_up_longer_than_the_epochs_is_refused(compose: Compose) -> None:
    config = compose(*TINY[:-1], "trainer.epochs=1", "schedule.warmup_iters=3")
    with pytest.raises(ConfigError, match=re.escape("schedule.warmup_iters=3 must be smaller than")):
        resolved(config, images=12, device=torch.device("cpu"))


def test_cosine_is_half_at_half() -> None:
    assert cosine(50, max_iters=100) == pytest.approx(0.5)
    assert cosine(99, max_iters=100) == pytest.approx((1 + math.cos(math.pi * 0.99)) / 2)
