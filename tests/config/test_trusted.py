"""YAML files of strangers, as Hydra composes them."""

from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig

from deeplabx.command.compose import loader_of
from deeplabx.command.table import BY_WORDS
from deeplabx.config.trusted import expanded
from deeplabx.errors import ConfigError

LOGGING = "{version: 1, formatters: {f: {'()': os.mkdir, path: ran}}, root: {handlers: []}}"


def composed(folder: Path, *overrides: str, name: str = "train") -> DictConfig:
    """The config of `deeplabx train --config-dir folder overrides...`, before anything is done with it."""
    loader = loader_of(BY_WORDS["train"], [folder])
    return loader.load_configuration(name, list(overrides), run_mode=RunMode.RUN)


def recipe(folder: Path, text: str) -> None:
    (folder / "recipe").mkdir()
    (folder / "recipe" / "theirs.yaml").write_text(f"# @package _global_\n{text}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hydra: {callbacks: {x: {_target_: os.mkdir, path: ran}}}", "hydra.callbacks is not supported"),
        ("hydra: {callbacks: '${seed}'}", "hydra.callbacks is not supported"),
        (f"hydra: {{job_logging: {LOGGING}}}", "hydra.job_logging is not supported"),
        (f"hydra: {{hydra_logging: {LOGGING}}}", "hydra.hydra_logging is not supported"),
        (
            "hydra: {job_logging: {version: 1, root: '${oc.create:{level:INFO}}'}}",
            "hydra.job_logging is not supported",
        ),
        (
            "hydra: {sweeper: {params: {x: [{y: {_target_: os.mkdir}}]}}}",
            "hydra.sweeper.params.x.0.y._target_=os.mkdir is not allowed",
        ),
        (
            "hydra: {sweeper: {params: '${oc.create:{_target_:os.mkdir}}'}}",
            "hydra.sweeper.params._target_=os.mkdir is not allowed",
        ),
        ("hydra: {sweeper: {params: {a.b: {_target_: os.mkdir}}}}", "_target_=os.mkdir is not allowed"),
        (
            "hydra: {sweeper: {params: {x: {_target_: hydra_plugins.x.os.mkdir}}}}",
            "hydra_plugins.x.os.mkdir is not allowed",
        ),
        (
            "hydra: {job: {env_set: {LD_PRELOAD: evil.so}}}",
            "hydra.job.env_set is not supported\nset LD_PRELOAD in the shell",
        ),
        (
            "hydra: {output_subdir: ../elsewhere}",
            "hydra.output_subdir=../elsewhere is not a name inside the run's folder",
        ),
    ],
)
def test_what_would_be_called_is_refused(tmp_path: Path, text: str, words: str) -> None:
    recipe(tmp_path, text)
    with pytest.raises(ConfigError, match=words.replace("[", r"\[").replace("$", r"\$")):
        composed(tmp_path, "+recipe=theirs")


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {sweep: {dir: elsewhere}, verbose: true, output_subdir: .hydra}",
        "hydra: {sweeper: {params: {optimizer.lr: '0.1,0.2'}}}",
        "hydra: {sweeper: {params: {sampler: {_target_: optuna.samplers.TPESampler, seed: 1}}}}",
        "hydra: {job: {env_copy: [HOME]}}",
        "seed: 7",
    ],
)
def test_what_is_data_is_not(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe(tmp_path, text)
    assert composed(tmp_path, "+recipe=theirs").dataset.name == "shapes"


def test_hydras_own_help_may_have_hydras_own_logging() -> None:
    assert (
        loader_of(BY_WORDS["train"]).load_configuration(None, [], run_mode=RunMode.RUN).hydra.job_logging.root
        is not None
    )


def test_a_primary_config_adds_folders_to_the_search_path_but_no_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    primary = "defaults:\n  - train\n  - _self_\nhydra:\n  searchpath: ['{}']\n"
    (tmp_path / "mine.yaml").write_text(primary.format("pkg://evil"))
    with pytest.raises(
        ConfigError, match="hydra.searchpath holds pkg://evil: a YAML file may name folders only"
    ):
        composed(tmp_path, name="mine")
    (tmp_path / "mine.yaml").write_text(primary.format(f"file://{tmp_path / 'evil'}"))
    assert composed(tmp_path, name="mine").seed == 0


def test_aliases_are_followed_as_far_as_a_config_may_be_large(tmp_path: Path) -> None:
    lists = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lists += [
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    recipe(tmp_path, "\n".join(lists))
    with pytest.raises(ConfigError, match="expands to more than 100,000 values through its aliases"):
        composed(tmp_path, "+recipe=theirs")
    (tmp_path / "recipe" / "theirs.yaml").write_text(
        "# @package _global_\neval:\n  scales: &s [8, 9]\n  crop: *s\n"
    )
    assert composed(tmp_path, "+recipe=theirs").eval.crop == [8, 9]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a: 1", 3),
        ("a: &x [1, 2]\nb: *x", 9),
        ("&x [*x]", 2),
        ("", 0),
        ("[", 0),
        ("[" * 20_000, 0),
        ("&x a: *y", 0),
    ],
)
def test_values_are_counted_as_often_as_they_stand(text: str, count: int) -> None:
    assert expanded(text.encode()) == count
