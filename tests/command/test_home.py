"""~ in a path, wherever a path can stand."""

import shutil
from pathlib import Path

import pytest
import yaml

import deeplabx as api
from deeplabx.command.compose import composed
from deeplabx.config.paths import expanded
from deeplabx.errors import ConfigError
from deeplabx.run.folder import config_of
from tests.conftest import TINY, Deeplabx


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "the home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize(
    ("words", "setting", "key"),
    [
        ("train", "dataset.root=~/x", "dataset.root"),
        ("train", "dataset.root='~/x'", "dataset.root"),
        ("train", 'dataset.root="~/x"', "dataset.root"),
        ("train", "+dataset.root=~/x", "dataset.root"),
        ("train", "init_from=~/x", "init_from"),
        ("train", "backbone.weights='~/x'", "backbone.weights"),
        ("train", "hydra.run.dir='~/x'", "hydra.run.dir"),
        ("train", "hydra.sweep.dir=~/x", "hydra.sweep.dir"),
        ("train", "dataset=voc", "dataset.sbd_root"),
        ("eval", "ckpt='~/x'", "ckpt"),
        ("predict", "out='~/x'", "out"),
        ("predict", "out='~/x'", "hydra.run.dir"),
        ("resume", "run='~/x'", "hydra.run.dir"),
        ("data fake", "out='~/x'", "out"),
        ("weights import", "source='~/x'", "source"),
    ],
)
def test_in_every_setting_that_is_a_path(home: Path, words: str, setting: str, key: str) -> None:
    from omegaconf import OmegaConf

    from deeplabx.command.compose import with_hydra

    more = ["dataset=voc", "dataset.sbd_root=~/x"] if key.endswith("sbd_root") else ["dataset=folder"]
    own = [setting, *(more if words in ("train", "data fake") else [])]
    assert OmegaConf.select(with_hydra(words, own), key) == f"{home}/x"


@pytest.mark.parametrize(
    "setting", ["input=[~/x,~/b (1)]", "input=['~/x','~/b (1)']", 'input=["~/x", ~/b (1)]']
)
def test_in_a_list(home: Path, setting: str) -> None:
    assert composed("predict", [setting, "ckpt=x"]).input == [f"{home}/x", f"{home}/b (1)"]


def test_what_is_no_home_stays(home: Path) -> None:
    for path in ("./~", "./~/x", "~no-such-user/x", "a~", "x/~", "~$a.png"):
        assert composed("predict", [f"input={path}"]).input == [path]
    assert composed("train", ["dataset=folder", "dataset.root=${oc.env:HOME}/x"]).dataset.root == f"{home}/x"


def test_of_another_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert composed("eval", ["ckpt=~root/x"]).ckpt == str(Path("~root").expanduser() / "x")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    with pytest.raises(ConfigError, match="ckpt=~/x: there is no home folder"):
        expanded("ckpt", "~/x")


def test_a_file_of_the_users_own_may_name_it(home: Path, own_run: Path) -> None:
    (home / "conf" / "recipe").mkdir(parents=True)
    (home / "conf" / "recipe" / "mine.yaml").write_text(
        "# @package _global_\ninit_from: ~/x\nhydra:\n  run:\n    dir: ~/runs/${seed}\n", encoding="utf-8"
    )
    from deeplabx.command.compose import with_hydra

    config = with_hydra("train", ["+recipe=mine"], folders=["~/conf"])
    assert (config.init_from, config.hydra.run.dir) == (f"{home}/x", f"{home}/runs/0")
    stored = yaml.safe_load((own_run / "config.yaml").read_text(encoding="utf-8"))
    (own_run / "config.yaml").write_text(yaml.safe_dump({**stored, "init_from": "~/x"}), encoding="utf-8")
    assert config_of(own_run).init_from == f"{home}/x"


@pytest.mark.slow
def test_on_a_command_line(deeplabx: Deeplabx, home: Path, own_run: Path, tmp_path: Path) -> None:
    shutil.move(own_run, home / "run")
    (home / "at_home.py").write_text("", encoding="utf-8")
    image = home / "a.png"
    deeplabx("data", "fake", "dataset=folder", "out=~/data", "images=1")
    shutil.copy(next((home / "data" / "images" / "val").iterdir()), image)
    for words in (["~/run", "~/a.png"], ["ckpt='~/run'", "input=['~/a.png']"]):
        ended = deeplabx("predict", *words, "out='~/out'")
        assert ended.code == 0, ended.err
        assert (home / "out" / "a.png").is_file()
        shutil.rmtree(home / "out")
    ended = deeplabx("resume", "~/run")
    assert ended.code == 0, ended.err
    ended = deeplabx("train", "-m", *TINY, "seed=0", "hydra.sweep.dir='~/sweep'", "schedule.max_iters=1")
    assert ended.code == 0, ended.err
    assert (home / "sweep" / "0" / "DONE").is_file()
    assert "registers nothing" in deeplabx("train", "plugins=['~/at_home.py']").err
    assert api.load("~/run").classes
    assert not list(tmp_path.glob("~*"))
