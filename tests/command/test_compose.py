"""Settings as Hydra composes them, in this process: what is wrong is answered in words."""

from pathlib import Path

import pytest

from tests.conftest import Deeplabx


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "train optimizer.lrr=0.1",
            ["optimizer.lrr is not a setting. Did you mean optimizer.lr?", "momentum"],
        ),
        ("train lr=0.1", ["lr is not a setting. Did you mean optimizer.lr?"]),
        ("train backbone=resnet51", ["backbone=resnet51", "Did you mean resnet50?", "mobilenetv2"]),
        ("train -m backbone=resnet18,resnet51", ["backbone=resnet51", "Did you mean resnet50?"]),
        ("train bakbone=resnet50", ["bakbone is not a setting. Did you mean backbone?"]),
        ("train +recipe=nothing", ["recipe=nothing is not an option of recipe"]),
        ("train recipe=nothing", ["a recipe is added, with a plus", "type +recipe="]),
        ("train schedule.max_iters=abc", ["schedule.max_iters=abc must be a whole number"]),
        (
            "train backbone.multi_grid=[1,2]",
            ["backbone.multi_grid is not a setting of the backbone chosen"],
        ),
        ("train optimizer.lr=${nothing}", ["optimizer.lr", "nothing"]),
        ("train seed=((", ["'seed=((' cannot be read as a setting"]),
        ("train backbone=[1]", ["cannot compose these settings"]),
        ("train backbone=null", ["cannot compose these settings"]),
        ("train ~seed", ["seed must be given"]),
        ("train ~model", ["model.name must be given"]),
        ("train --config-name nope", ["there is no primary config 'nope'"]),
        ("train --config-dir nowhere", ["--config-dir nowhere: there is no such folder"]),
        ("eval", ["ckpt= must be given: a run folder or a checkpoint"]),
        ("eval ckpt=", ["ckpt= must be given: a run folder or a checkpoint"]),
        ("eval RUN more", ["'more' is one word too many", "deeplabx eval RUN"]),
        ("train RUN", ["'RUN' is not a setting", "as in dataset=RUN"]),
        ("train stages={first: {}}", ["'{}}' is not a setting: the shell has split", "quote the whole"]),
        ("eval ckpt=null", ["ckpt=null must be text"]),
        ("eval ckpt=${nothing}", ["ckpt: Interpolation key 'nothing' not found"]),
        ("eval ckpt=x dataset.rot=y", ["dataset.rot is not a setting. Did you mean dataset.root?"]),
        ("predict ckpt=x", ["predict needs images"]),
        ("predict ckpt=x ~input", ["predict needs images"]),
        ("data fake dataset=voc", ["out= must be given"]),
        ("weights import out=x", ["source= must be given"]),
        ("weights verify source=x lr=1", ["lr is not a setting"]),
    ],
)
def test_a_wrong_setting_is_answered_in_words(
    deeplabx: Deeplabx, tmp_path: Path, line: str, words: list[str]
) -> None:
    ended = deeplabx(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("deeplabx: ")
    assert 1 <= len(ended.err.splitlines()) <= 3
    assert all(word in ended.err for word in words), ended.err
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not left or left == ["multirun.yaml"]  # Hydra's own note of the sweep that was asked for


def test_cfg_prints_the_whole_config(deeplabx: Deeplabx) -> None:
    ended = deeplabx("train", "backbone=resnet50", "dataset=camvid", "--cfg", "job", "--resolve")
    assert (ended.code, ended.err) == (0, "")
    assert "name: resnet50" in ended.out
    assert "crop_size: 353" in ended.out


def test_info_shows_what_is_composed(deeplabx: Deeplabx) -> None:
    ended = deeplabx("train", "--info", "defaults")
    assert (ended.code, ended.err) == (0, "")
    assert "| backbone/mobilenetv2 " in ended.out


def test_a_config_folder_of_ones_own(deeplabx: Deeplabx, tmp_path: Path) -> None:
    (tmp_path / "mine" / "backbone").mkdir(parents=True)
    (tmp_path / "mine" / "backbone" / "small.yaml").write_text(
        "defaults:\n  - /schema/backbone/mobilenetv2@_here_\n  - _self_\nname: mobilenetv2\noutput_stride: "
        "32\nweights: null\n"
    )
    ended = deeplabx("train", "backbone=small", "--cfg", "job", "--config-dir", "mine")
    assert "output_stride: 32" in ended.out, ended.err
