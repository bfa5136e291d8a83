"""The weighted sum of losses: its settings, and what a run makes of them."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from deeplabx import registry
from deeplabx.command.compose import training_config
from deeplabx.config import schema, stored
from deeplabx.config.fields import number
from deeplabx.dataset.class_balance import balanced_weights
from deeplabx.errors import ConfigError
from deeplabx.loss.composite import Composite
from deeplabx.loss.contract import Loss
from deeplabx.run import plugins
from deeplabx.run.build import dataset_of, loss_of
from deeplabx.run.class_weights import pixels_counted
from deeplabx.run.description import config_from_plain, options_of
from tests.conftest import TINY, Deeplabx, TrainTiny, compose_plain

BOTH = (
    "loss.parts=[{name: cross_entropy, class_balance: enet, keep_priors: true}, {name: lovasz, weight: 0.5}, "
    "{name: ohem, exact: false}]"
)


def composed(parts: str) -> Any:
    return training_config(["loss=composite", f"loss.parts={parts}"]).loss


def test_a_config_names_every_setting_of_each_part() -> None:
    assert composed("[{name: cross_entropy, label_smoothing: 0.1}, {name: lovasz, weight: 2}]").parts == [
        {
            "name": "cross_entropy",
            "weight": 1.0,
            "class_weights": None,
            "class_balance": None,
            "keep_priors": False,
            "label_smoothing": 0.1,
        },
        {"name": "lovasz", "weight": 2.0},
    ]


def test_each_part_is_built_with_its_settings() -> None:
    loss = loss_of(composed("[{name: cross_entropy, class_weights: [1, 2]}, {name: lovasz, weight: 0.5}]"))
    assert isinstance(loss, Composite)
    (first, weighted), (second, other) = loss.parts
    assert (first, second) == (1.0, 0.5)
    assert [type(weighted).__name__, type(other).__name__] == ["CrossEntropy", "LovaszSoftmax"]
    assert weighted.class_weights.tolist() == [1.0, 2.0]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("[{name: lovsz}]", r"loss.parts\[0\].name='lovsz': loss=lovsz is not known. Did you mean lovasz\?"),
        (
            "[{name: lovasz}, {name: cross_entropy, keep_prior: true}]",
            r"loss.parts\[1\].keep_prior is not a setting of loss=cross_entropy. Did you mean keep_priors\?",
        ),
        ("[{name: lovasz, weight: -1}]", r"loss.parts\[0\].weight=-1.0 is out of range: it must be above 0"),
        ("[{name: lovasz, weight: inf}]", r"loss.parts\[0\].weight=inf is not a finite number"),
        ("[{name: lovasz, weight: x}]", r"loss.parts\[0\].weight='x' is not a number"),
        (
            "[{name: cross_entropy, label_smoothing: 2}]",
            r"loss.parts\[0\].label_smoothing=2.0 is out of range: it must be at least 0 and below 1",
        ),
        (
            "[{name: cross_entropy, class_weights: [1, x]}]",
            r"loss.parts\[0\].class_weights=\[1, 'x'\] is not a list of numbers",
        ),
        ("[{name: cross_entropy, class_weights: []}]", r"loss.parts\[0\].class_weights=\[\] is empty"),
        ("[{name: cross_entropy, keep_priors: 1}]", r"loss.parts\[0\].keep_priors=1 is not true or false"),
        (
            "[{name: cross_entropy, class_balance: ene}]",
            r"loss.parts\[0\].class_balance=ene is not one of .*Did you mean enet\?",
        ),
        (
            "[{name: lovasz}, {name: cross_entropy, keep_priors: true}]",
            r"loss.parts\[1\].keep_priors=true, but there are no class weights",
        ),
        (
            "[{name: cross_entropy, class_weights: [1], class_balance: enet}]",
            r"loss.parts\[0\].class_weights=\[1.0\] and loss.parts\[0\].class_balance=enet: set only one",
        ),
        ("[{name: composite}]", r"loss.parts\[0\].name=composite: a composite loss cannot be a part"),
        ("[{weight: 1}]", r"loss.parts\[0\] has no name of a loss"),
        ("[]", r"loss.parts=\[\] is empty"),
        ("[lovasz]", r"must be a list such as .*\nquote it for the shell"),
        (f"[{', '.join(21 * ['{name: lovasz}'])}]", "loss.parts has 21 parts; there must be at most 20"),
    ],
)
def test_a_mistake_names_its_part(parts: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        composed(parts)
    assert len(str(raised.value).splitlines()) <= 3


def test_a_mistake_ends_the_command_in_words(deeplabx: Deeplabx) -> None:
    ended = deeplabx("train", "loss=composite", "loss.parts=[{name: lovsz}]")
    assert ended.code == 2
    assert "Did you mean lovasz?" in ended.err


# --- losses from outside the project ------------------------------------------------------------------------


class Square(Loss):
    """The contract before a loss had parts."""

    def __init__(self, *, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return (logits.sum(1) * (labels != ignore_index)).abs().pow(self.power).sum()


@dataclass
class SquareSettings(schema.LossSettings):
    power: float = number(above=0, default=2.0)


@dataclass
class HeavySettings(schema.LossSettings):
    weight: float = number(above=0, default=2.0)


@pytest.fixture
def own(own_options: None) -> None:
    registry.register("loss", "square", build=Square, settings=SquareSettings, words="")


def test_a_loss_from_outside_is_a_part(own: None) -> None:
    parts = "[{name: square, power: 1.5, weight: 1e-3}, {name: cross_entropy}]"
    loss = loss_of(composed(parts))
    assert isinstance(loss.parts[0][1], Square)
    assert loss.parts[0][1].power == 1.5
    config = compose_plain("loss=composite", f"loss.parts={parts}")
    (plugin,) = plugins.needed(options_of(config))
    assert plugin["options"] == ["loss=square"]  # so a checkpoint says that it needs it
    with pytest.raises(ConfigError, match=r"loss.parts\[0\].power=0.0 is out of range: it must be above 0"):
        composed("[{name: square, power: 0}]")


def test_a_setting_that_is_called_as_a_parts_weight_is_refused(own: None) -> None:
    registry.register("loss", "heavy", build=lambda weight: Square(power=1), settings=HeavySettings, words="")
    with pytest.raises(ConfigError, match=r"loss.parts\[0\]: loss=heavy has a setting of its own that is"):
        composed("[{name: heavy}]")


def test_a_part_that_returns_no_sum_is_named(own_options: None, train_tiny: TrainTiny) -> None:
    class Mean(Loss):
        def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
            return logits.mean(1)

    registry.register("loss", "other", build=Mean, settings=schema.LossSettings, words="")
    with pytest.raises(ConfigError, match=r"the loss Mean, a part of the loss Composite, returned a tensor"):
        train_tiny("run", "loss=composite", "loss.parts=[{name: lovasz}, {name: other}]")


# --- stored, and resumed ------------------------------------------------------------------------------------


def test_a_stored_config_comes_back_and_nonsense_in_it_is_an_error() -> None:
    config = compose_plain("loss=composite")
    plain: Any = stored.to_plain(config)
    assert config_from_plain(plain) == config
    nonsense: list[Any] = [[], [{"name": 3}], [{"name": "lovasz", "x": 1}], [[]], "lovasz"]
    for parts in nonsense:
        broken = {**plain, "loss": {"name": "composite", "parts": parts}}
        with pytest.raises(ConfigError, match=r"loss\.parts"):
            config_from_plain(broken)


def test_class_weights_of_a_part_are_counted_once_said_and_stored(
    train_tiny: TrainTiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["loss=composite", BOTH, "schedule.max_iters=2", "trainer.accumulate=2"]
    folder = train_tiny("run", *settings)
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert log.count("its gradient is not that of the whole batch") == 1
    assert "loss=ohem is computed for each pass of each process separately" in log
    assert "class weights of loss.parts[0] (cross_entropy): background 0." in log
    samples = dataset_of(compose_plain(*TINY).dataset, split="train")
    expected = balanced_weights("enet", pixels_counted(samples, workers=0))
    parts = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["loss"]["parts"]
    assert parts[0]["class_weights"] == expected
    monkeypatch.setattr("deeplabx.run.class_weights.pixels_counted", None)  # a resumed run counts nothing
    (folder / "DONE").unlink()
    assert train_tiny("run", *settings, "resume=true") == folder
    (folder / "DONE").unlink()
    with pytest.raises(ConfigError, match=r"this run was made with other settings: loss\.parts was"):
        train_tiny("run", "loss=composite", *settings[2:], "resume=true")


def test_a_wrong_number_of_weights_names_the_part(train_tiny: TrainTiny) -> None:
    with pytest.raises(
        ConfigError, match=r"loss.parts\[1\].class_weights has 2 values, but shapes has 7 classes"
    ):
        train_tiny(
            "run",
            "loss=composite",
            "loss.parts=[{name: lovasz}, {name: cross_entropy, class_weights: [1, 2]}]",
        )


def test_its_buffers_and_its_step_are_those_of_its_parts() -> None:
    class Noting(Loss):
        def at_step(self, step: int) -> None:
            self.step = step

    first, second = Noting(), Noting()
    first.register_buffer("table", torch.zeros(2))
    loss = Composite(parts=[(1.0, first), (2.0, second)])
    loss.at_step(7)
    assert (first.step, second.step) == (7, 7)
    assert loss.double().parts[0][1].table.dtype == torch.float64
    second.exact = False
    assert not Composite(parts=[(1.0, first), (2.0, second)]).exact
