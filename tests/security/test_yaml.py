"""YAML files that call something, or are far larger than they look: those of a run, class tables, recipes."""

from pathlib import Path

import pytest

from deeplabx.dataset.fake import write_fake
from tests.security.conftest import ON_FOLDER, RESUME, TRAIN, Harmless, Place, short_form


def nine_times(letters: str) -> list[str]:
    """Lists named by letters: the first holds nine texts, each other one the list before nine times."""
    held = ["x", *[f"*{letter}" for letter in letters]]
    return [f"&{name} [{', '.join([what] * 9)}]" for what, name in zip(held, letters, strict=False)]


LAUGHS = "".join(f"{text[1]}: {text}\n" for text in nine_times("abcdefghijkl"))  # "a billion laughs"
LAUGHING = f"[{', '.join(nine_times('abcdefghi'))}]"  # its repr has 9^9 elements
PYTHON = "!!python/object/apply:os.mkdir ['MARKER']"
CALL = "{_target_: os.mkdir, _args_: ['MARKER']}"
FORMATTER = "{'()': os.mkdir, path: 'MARKER'}"
FACTORY = (  # a logging config that calls os.mkdir
    f"{{version: 1, formatters: {{f: {FORMATTER}}}, "
    "handlers: {h: {class: logging.StreamHandler, formatter: f}}, root: {handlers: [h]}}"
)
LOG_FILE = (
    "{version: 1, handlers: {h: {class: logging.FileHandler, filename: 'OUTSIDE/decoy.txt', mode: w}}, "
    "root: {handlers: [h]}}"
)
FOUR = "classes: [background, road, water, tree]\nignore: [255]\n"
YAML: dict[str, str | bytes] = {  # for a file whose keys do not matter
    "a python tag": f"x: {PYTHON}\n",
    "a python tag at the top": f"{PYTHON}\n",
    "a billion laughs": LAUGHS,
    "deep YAML": "[" * 20_000,
    "binary YAML": b"\xff\xfe\0",
    "a list": "- 1\n- 2\n",
    "a laughing list": f"{LAUGHING}\n",
}
SEEDS = {  # what stands for `seed: 0` in a run's config.yaml
    "a _target_": "seed: 0\n_target_: os.mkdir\n_args_: ['MARKER']",
    "a laughing seed": f"{LAUGHS}seed: *l",
    "only a laughing seed": f"seed: {LAUGHING}",
    "a resolver": "seed: ${oc.decode:0}",
}
CLASSES: dict[str, str | bytes] = {
    **YAML,
    "laughing classes": f"classes: {LAUGHING}\n",
    "a laughing colour": f"classes: {{a: [0, 0, 0], b: {LAUGHING}}}\n",
    "a laughing label_map": f"classes: [a, b]\nlabel_map: {{0: a, 1: {LAUGHING}}}\n",
    "a laughing ignore": f"classes: [a, b, c, d]\nignore: {LAUGHING}\n",
    "a _target_": f"{FOUR}_target_: os.mkdir\n",
    "a class that moves the cursor": FOUR.replace("background", r'"\e[2J\e]0;owned\a"'),
    "a class of 10^6 letters": FOUR.replace("background", "x" * 10**6),
    "a key of 10^6 letters": f"{FOUR}? {'x' * 10**6}\n: 1\n",
    "python as a class": FOUR.replace("background, road", "__import__('os').system('x'), '${oc.env:HOME}'"),
}
RECIPES = {
    "a callback": f"hydra:\n  callbacks:\n    x: {CALL}\n",
    "a callback behind an interpolation": f"hydra:\n  sweeper:\n    params: {{x: {CALL}}}\n"
    "  callbacks: ${hydra.sweeper.params}\n",
    "a logging factory for jobs": f"hydra:\n  job_logging: {FACTORY}\n",
    "a logging factory for Hydra": f"hydra:\n  hydra_logging: {FACTORY}\n",
    "a log file elsewhere": f"hydra:\n  job_logging: {LOG_FILE}\n",
    "a launcher's _target_": f"hydra:\n  launcher: {CALL}\n",
    "a _target_ below the sweeper": f"hydra:\n  sweeper:\n    params: {{x: {CALL}}}\n",
    "a _target_ for a setting": f"seed: {CALL}\n",
    "a _target_ beside the settings": f"extra: {CALL}\n",
    "an environment": "hydra:\n  job:\n    env_set: {LD_PRELOAD: /tmp/evil.so, PYTHONSTARTUP: evil.py}\n",
    "an output_subdir elsewhere": "hydra:\n  output_subdir: OUTSIDE\n",
    "a python tag": f"seed: {PYTHON}\n",
    "a billion laughs": LAUGHS,
    "deep YAML": "seed: " + "[" * 20_000,
    "a laughing seed": f"seed: {LAUGHING}\n",
    "an unknown resolver": "seed: ${os.system:x}\n",
}
SWEEPS = {"a launcher's _target_": "-m", "a _target_ below the sweeper": "-m seed=1,2"}


@pytest.mark.parametrize("kind", short_form(YAML))
def test_config_yaml_of_a_run(kind: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    place.write("run/config.yaml", YAML[kind])
    harmless(RESUME)


@pytest.mark.parametrize("kind", short_form(SEEDS))
def test_a_value_in_config_yaml_of_a_run(kind: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    before, found, after = Path("run/config.yaml").read_text().partition("\nseed: 0\n")
    assert found
    place.write("run/config.yaml", f"{before}\n{SEEDS[kind]}\n{after}")
    harmless(RESUME)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a python tag", "binary YAML", "a laughing list"])
def test_overrides_yaml_of_a_run(kind: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    place.write("run/overrides.yaml", YAML[kind])
    # It is a note of what was typed: what is no text in it is left out.
    harmless(RESUME, may_succeed=kind == "a laughing list")


@pytest.mark.parametrize("kind", short_form(CLASSES))
def test_a_table_of_classes(kind: str, place: Place, harmless: Harmless) -> None:
    write_fake("folder", Path("data"), images=2, seed=0)
    place.write("data/classes.yaml", CLASSES[kind])
    harmless(ON_FOLDER, may_succeed=kind == "python as a class")  # a class may have any name


@pytest.mark.parametrize("kind", short_form(RECIPES, every=8))
def test_a_recipe(kind: str, place: Place, harmless: Harmless) -> None:
    place.write("their/recipe/theirs.yaml", "# @package _global_\n" + RECIPES[kind])
    harmless(f"{TRAIN} --config-dir their +recipe=theirs {SWEEPS.get(kind, '')}")


@pytest.mark.slow
def test_a_logging_config_of_hydra(place: Place, harmless: Harmless) -> None:
    place.write("their/hydra/job_logging/evil.yaml", f"# @package hydra.job_logging\n{FACTORY}\n")
    harmless(f"{TRAIN} --config-dir their hydra/job_logging=evil")


def test_a_package_to_search(place: Place, harmless: Harmless, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("evil/__init__.py", "import os\nos.mkdir('MARKER')\n")
    defaults = "defaults:\n  - train\n  - _self_\n"
    place.write("their/mine.yaml", f"{defaults}hydra:\n  searchpath: ['pkg://evil']\n")
    monkeypatch.syspath_prepend(place.inside)
    harmless(f"{TRAIN} --config-dir their --config-name mine")
