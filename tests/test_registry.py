import inspect
import sys
import textwrap
import types
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor

from deeplabx import registry
from deeplabx.command.compose import training_config
from deeplabx.config import schema, stored
from deeplabx.config.fields import number
from deeplabx.errors import ConfigError
from deeplabx.loss.contract import Loss
from deeplabx.run.build import loss_of
from deeplabx.run.description import config_from_plain

FROM_THE_RUN = {  # what a builder is given beside the settings of its option
    "model": {"backbone", "num_classes"},
    "backbone": {"in_channels"},
    "dataset": {"split"},
    "augment": {"pad_pixel", "ignore_index"},
    "optimizer": {"groups"},
    "schedule": {"step"},
    "loss": set(),
    "tracker": set(),
}
OPTIONS = [option for options in registry.OPTIONS.values() for option in options.values()]


class Focal(Loss):
    def __init__(self, *, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return logits.sum() * self.gamma


@dataclass
class FocalSettings(schema.LossSettings):
    gamma: float = number(above=0, default=2.0)


@pytest.fixture
def focal(own_options: None) -> None:
    """A loss from outside the project."""
    registry.register(
        "loss", "own_focal", build=Focal, settings=FocalSettings, words="Focal loss (1708.02002)"
    )


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.group}/{option.name}")
def test_a_builder_takes_the_settings_of_its_option_by_name(option: registry.Option) -> None:
    taken = {one.name for one in fields(option.settings) if one.metadata.get("builder", True)} - {"name"}
    parameters = inspect.signature(option.builder).parameters.values()
    named = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
    assert not [one for one in parameters if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    assert taken <= named
    assert named - taken == FROM_THE_RUN[option.group]


def test_an_option_from_outside_has_its_defaults_and_its_settings(focal: None) -> None:
    assert training_config(["loss=own_focal"]).loss == FocalSettings(name="own_focal", gamma=2.0)
    loss = loss_of(training_config(["loss=own_focal", "loss.gamma=3"]).loss)
    assert isinstance(loss, Focal)
    assert float(loss(torch.ones(2), torch.ones(2), ignore_index=255)) == 6.0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss.gamma=0", "loss.gamma=0.0 is out of range: it must be above 0"),
        ("loss.gamma=x", "loss.gamma=x must be a number"),
        ("loss.gama=1", "loss.gama is not a setting. Did you mean loss.gamma?"),
    ],
)
def test_its_mistakes_are_answered_like_the_projects_own(focal: None, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        training_config(["loss=own_focal", override])
    assert words in str(raised.value)


def test_a_name_that_is_nearly_its_own_is_answered_with_it(focal: None) -> None:
    with pytest.raises(
        ConfigError, match=r"loss=own_fokal is not an option of loss. Did you mean own_focal\?"
    ):
        training_config(["loss=own_fokal"])


def test_its_config_comes_back_from_a_checkpoint_where_it_is_registered(
    focal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Any = stored.to_plain(training_config(["loss=own_focal"]))
    assert config_from_plain(plain).loss == FocalSettings(name="own_focal", gamma=2.0)
    monkeypatch.delitem(registry.OPTIONS["loss"], "own_focal")
    with pytest.raises(ConfigError, match="loss=own_focal is not known"):
        config_from_plain(plain)


# --- what cannot be registered ------------------------------------------------------------------------------


def not_a_dataclass() -> type:
    class Settings(FocalSettings):
        alpha: float = 1.0

    return Settings


@dataclass
class Unholdable(schema.LossSettings):
    where: dict = None  # type: ignore[assignment]


@dataclass
class Misspelt(schema.LossSettings):
    gama: float = number(above=0, default=2.0)


@pytest.mark.parametrize(
    ("group", "name", "settings", "words"),
    [
        ("losses", "x", FocalSettings, r"losses is not a group. Did you mean loss\?"),
        ("loss", "cross_entropy", FocalSettings, "loss=cross_entropy is already registered"),
        ("optimizer", "x", FocalSettings, "are not a dataclass that extends OptimizerSettings"),
        ("loss", "x", dict, "the settings of loss=x are not a dataclass that extends LossSettings"),
        ("loss", "x", not_a_dataclass(), "are not a dataclass that extends LossSettings"),
        ("loss", "x", Unholdable, "a setting of loss=x cannot be held by a config: field 'where'"),
        ("loss", "x", Misspelt, "the builder of loss=x has no parameter gama"),
    ],
)
def test_what_cannot_be_registered_is_refused(group: str, name: str, settings: type, words: str) -> None:
    before = {group: dict(options) for group, options in registry.OPTIONS.items()}
    with pytest.raises(ConfigError, match=words):
        registry.register(group, name, build=Focal, settings=settings, words="")
    assert before == registry.OPTIONS


def test_a_builder_that_is_not_there_is_an_error_of_its_option(own_options: None) -> None:
    registry.register("loss", "lost", build="no_module:Lost", settings=FocalSettings, words="")
    with pytest.raises(ConfigError, match="loss=lost cannot be imported from no_module:Lost: No module"):
        loss_of(training_config(["loss=lost"]).loss)


def test_what_is_built_must_be_what_the_group_holds(own_options: None) -> None:
    registry.register(
        "loss", "other", build=lambda gamma: torch.nn.Identity(), settings=FocalSettings, words=""
    )
    with pytest.raises(ConfigError, match="loss=other builds a Identity, which does not extend Loss"):
        loss_of(training_config(["loss=other"]).loss)


def test_the_example_of_register_runs(own_options: None) -> None:
    found: dict[str, Any] = {"__name__": "example"}
    documentation = inspect.getdoc(registry.register) or ""
    example = documentation.split("::\n", 1)[1].split("\n\nRaises", 1)[0]
    sys.modules["example"] = types.ModuleType("example")  # dataclasses look their module up
    exec(textwrap.dedent(example), found)
    loss = loss_of(found["config"].loss)
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[0, 0] = 255
    chosen = logits.softmax(1).gather(1, labels.where(labels != 255, 0)[:, None])[:, 0]
    expected = (3 * (1 - chosen) - chosen.log())[labels != 255].sum()
    assert float(loss(logits, labels, ignore_index=255)) == pytest.approx(float(expected), rel=1e-5)
