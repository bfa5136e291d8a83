"""What people mistype, and what they are told: each a row of words, exit code, and whether torch was needed.

The rows run in one process that has imported Hydra but not torch, each in a fork of it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY, Root

# Reads rows of words from stdin; prints, of each, the exit code, the text, and whether torch was imported.
RUNNER = """
import json, os, sys, tempfile
from deeplabx import cli
from deeplabx.command import dispatch, jobs
assert "torch" not in sys.modules
answers = []
for words in json.load(sys.stdin):
    folder = tempfile.mkdtemp(dir=os.getcwd())
    child = os.fork()
    if not child:
        os.chdir(folder)
        printed = os.open("printed", os.O_WRONLY | os.O_CREAT)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        try:
            cli.main(words)
        except SystemExit as ended:
            code = ended.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        open("torch", "w").write(str("torch" in sys.modules))
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    printed, torch = (open(os.path.join(folder, name)).read() for name in ("printed", "torch"))
    answers.append([code, printed, torch == "True"])
print(json.dumps(answers))
"""


class Row(NamedTuple):
    line: str
    code: int
    said: tuple[str, ...]


def row(line: str, code: int, *said: str) -> Row:
    return Row(line, code, said)


# {run}: a finished run. {photos}: a folder of images. {own}: a folder with conf/ of a user's own.
BEFORE_TORCH = [
    # command and flags
    row("trian", 2, "trian is not a command of deeplabx. Did you mean train?"),
    row("--train", 2, "--train is not a command of deeplabx. Did you mean train?"),
    row("data", 2, "data needs a second word: check, stats, preview, fake"),
    row("train --lr 0.01", 2, "--lr is not an option", "type optimizer.lr=0.01"),
    row("train --epochs=10", 2, "--epochs is not an option", "type trainer.epochs=10"),
    row("train --gpus 2", 2, "type trainer.devices=2"),
    row("train --mulitrun", 2, "--mulitrun is not an option. Did you mean --multirun?"),
    row("predict --ckpt RUN", 2, "--ckpt is not an option", "type ckpt=RUN"),
    row("train –m optimizer.lr=1,2", 2, "'–m' begins with a long dash", "type -m"),
    row("train conf/exp.yaml", 2, "conf/exp.yaml is a file: settings", "--config-dir FOLDER +recipe=NAME"),
    row("train --config-name exp", 2, "there is no primary config 'exp'", "+recipe=NAME"),
    row("train --config-dir nowhere", 2, "--config-dir nowhere: there is no such folder"),
    row("train --config-dir {own} +recipe=broken", 2, "a YAML file cannot be read", "broken.yaml"),
    # the form of a setting
    row("train loss.parts[0].weight=3", 2, "sets one element of a list", "'loss.parts=[...]'"),
    row(
        "train +recipe=voc_deeplabv3_resnet101_trainval dataset.root=. stages.trainvl.seed=1",
        2,
        "stages.trainvl is not a stage of the recipe. Did you mean trainval?",
        "a plus adds one: +stages.trainvl.seed=1",
    ),
    row("train optimizer.lr = 0.01", 2, "no spaces around its =", "type optimizer.lr=0.01"),
    row("train optimizer.lr= 0.01", 2, "no spaces around its =", "type optimizer.lr=0.01"),
    row("train optimizer.lr =0.01", 2, "no spaces around its =", "type optimizer.lr=0.01"),
    row("train optimizer.lr:0.01", 2, "'optimizer.lr:0.01' is not a setting", "type optimizer.lr=0.01"),
    row("train optimizer.lr", 2, "optimizer.lr has no value", "type optimizer.lr=VALUE"),
    row("train optimizer.lr=0,01", 2, "optimizer.lr=0,01 holds several values", "write a decimal point"),
    row("train eval.scales=0.5,1.0", 2, "must be a list in brackets", "type 'eval.scales=[0.5,1.0]'"),
    row("train seed=(1", 2, "'seed=(1' cannot be read as a setting", "quote a value"),
    row(
        "train augment=albumentations augment.transforms=[name:NoOp]",  # what bash makes of [{name:NoOp,p:1}]
        2,
        "must be a list such as [{{name: NAME, KEY: VALUE}}]",
        "quote it for the shell",
    ),
    row("train augment.transforms=[{{'name':NoOp}}]", 2, "cannot be read", "names in {{ }} have no quotes"),
    row("train resnet50", 2, "'resnet50' is not a setting", "as in backbone=resnet50"),
    row("train camvid", 2, "'camvid' is not a setting", "as in dataset=camvid"),
    # names
    row("train optimizer.lrr=0.1", 2, "optimizer.lrr is not a setting. Did you mean optimizer.lr?"),
    row("train lr=0.1", 2, "lr is not a setting. Did you mean optimizer.lr?"),
    row("train epochs=10", 2, "epochs is not a setting. Did you mean trainer.epochs?"),
    row("train gpus=2", 2, "gpus is not a setting. Did you mean trainer.devices?"),
    row("train model.num_classes=3", 2, "model.num_classes is not a setting", "its classes.yaml does"),
    row("train ckpt=RUN", 2, "ckpt is not a setting", "deeplabx resume RUN", "init_from=RUN"),
    row("train bakbone=resnet50", 2, "bakbone is not a setting. Did you mean backbone?"),
    row(
        "train backbone=resnet51", 2, "backbone=resnet51 is not an option of backbone. Did you mean resnet50?"
    ),
    row("train backbone=ResNet50", 2, "Did you mean resnet50?"),
    row(
        "train model=deeplabv3+", 2, "model=deeplabv3+ is not an option of model. Did you mean deeplabv3plus?"
    ),
    row("train dataset=pascal", 2, "dataset=pascal is not an option of dataset. Did you mean voc?"),
    row("train optimizer=adam", 2, "optimizer=adam is not an option of optimizer. Did you mean adamw?"),
    row(
        "train model.scales=[1.0]",
        2,
        "model.scales is not a setting of the model chosen",
        "help model.scales",
    ),
    row("train +recipe=voc_deeplabv3", 2, "Did you mean voc_deeplabv3_mobilenetv2 or "),
    row("train recipe=voc_deeplabv3_resnet101", 2, "with a plus", "type +recipe=voc_deeplabv3_resnet101"),
    row("list losses", 2, "losses is not a group. Did you mean loss?"),
    row("help trainer.emadecay", 2, "Did you mean trainer.ema_decay?"),
    # values
    row(
        "train trainer.devices=gpu", 2, "trainer.devices=gpu is not one of auto, cpu", "auto is the first GPU"
    ),
    row("train trainer.devices=cuda", 2, "trainer.devices=cuda is not one of", "auto is the first GPU"),
    row("train trainer.devices=0", 2, "trainer.devices=0 is not one of", "CUDA_VISIBLE_DEVICES=1"),
    row(
        "train trainer.precision=float16", 2, "trainer.precision=float16 is not one of", "Did you mean fp16?"
    ),
    row("train schedule.max_iters=abc", 2, "schedule.max_iters=abc must be a whole number"),
    row("train schedule.max_iters=1e3", 2, "must be a whole number", "set schedule.max_iters=1000"),
    row("train optimizer.lr=-1", 2, "optimizer.lr=-1.0 is out of range: it must be above 0"),
    row("train trainer.batch_size=", 2, "trainer.batch_size= must be a whole number"),
    row(
        "train trainer.batch_size=1",
        2,
        "but a batch norm needs at least two values",
        "set trainer.batch_size=2",
    ),
    row("train trainer.batch_size=7 trainer.devices=2", 2, "is not divisible by", "trainer.batch_size=8"),
    row("train trainer.epochs=2 schedule.max_iters=10", 2, "both say how long the run is: set only one"),
    row("train resume=RUN", 2, "resume=RUN must be true or false", "deeplabx resume RUN"),
    row("train plugins=nope.py", 2, "plugins=nope.py: there is no such file"),
    # paths
    row("train init_from=/nope", 4, "init_from=/nope does not exist"),
    row("train backbone.weights=/nope", 4, "backbone.weights=/nope does not exist"),
    row("eval", 2, "ckpt= must be given"),
    row("eval {run} {run}", 2, "is one word too many", "deeplabx eval RUN"),
    row("eval {photos}", 4, "contains images, not a checkpoint"),
    row("eval {photos}/a.png", 4, "a.png is an image, not a checkpoint"),
    row(
        "eval {run}/checkpoints/step-00000004/model.safetensors",
        4,
        "is a file; checkpoints are folders",
        "set ",
    ),
    row("predict {run}", 2, "predict needs images, folders or videos"),
    row("predict {run} nope.jpg", 3, "input=nope.jpg does not exist"),
    row("predict ckpt=/nope input=/nope", 4, "ckpt=/nope does not exist; input=/nope does not exist"),
    row("resume", 2, "resume needs the folder of a run"),
    row("resume {run} schedule.max_iters=9", 2, "cannot be changed by this command", "deeplabx extend RUN"),
    row("train out=x", 2, "out is not a setting", "hydra.run.dir=FOLDER"),
    row("resume {photos}", 4, "is not the folder of a run"),
    row("resume {run}/checkpoints", 4, "is not the folder of a run", "type {run}"),
    row(
        "extend {run}", 2, "schedule.max_iters= must be given", "deeplabx extend RUN schedule.max_iters=2000"
    ),
    row("extend {run} --run", 2, "schedule.max_iters= must be given"),
    row("extend {run} --config-dir {own}", 2, "schedule.max_iters= must be given"),
    row("data fake dataset=voc", 2, "out= must be given"),
]
AFTER_TORCH = [
    row("train dataset=camvid", 3, "dataset.root is not set"),
    row("train dataset=camvid dataset.root=nowhere", 3, "dataset.root=nowhere: there is no such folder"),
    row("train dataset=camvid dataset.root={photos}", 3, "dataset.root=", "must contain"),
    row("train dataset=folder dataset.root={jpeg_masks}", 3, "a mask must not be a JPEG file", "PNG"),
    row("train dataset=folder dataset.root={missing_mask}", 3, "have no label file"),
    row("train hydra.run.dir={run}", 2, "already holds checkpoints", "resume=true"),
    row("extend {run} schedule.max_iters=2", 2, "does not extend a run of 4", "more than 4"),
    row("predict {run} {empty}", 3, "holds no images"),
    row("eval {run} dataset.split=tset", 3, "dataset.split=tset is not a split of shapes"),
    row("train init_from=deeplabv3_mobilenetv2_voc_google", 4, "cannot be downloaded", "DEEPLABX_CACHE"),
    row("weights list resnet50", 4, "there are no known weights named resnet50. Did you mean resnet50_"),
]


@pytest.fixture(scope="module")
def places(tiny_run: Path, fake_root: Root, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the rows' placeholders stand for."""
    home = tmp_path_factory.mktemp("mistakes")
    (home / "photos").mkdir()
    (home / "empty").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(home / "photos" / "a.png")
    (home / "own" / "recipe").mkdir(parents=True)
    (home / "own" / "recipe" / "broken.yaml").write_text("# @package _global_\nseed: [1\n")
    for name, suffix in (("jpeg_masks", ".jpg"), ("missing_mask", None)):
        for kind in ("images", "masks"):
            (home / name / kind / "train").mkdir(parents=True)
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(home / name / "images/train/a.jpg")
        if suffix:
            Image.fromarray(np.zeros((9, 9), np.uint8)).save(home / name / f"masks/train/a{suffix}")
        (home / name / "classes.yaml").write_text("classes: [ground, thing]\n")
    names = ("photos", "empty", "own", "jpeg_masks", "missing_mask")
    run = shutil.copytree(tiny_run, home / "run")  # a row that fails may change it
    return {"run": run, "home": home, **{name: home / name for name in names}}


def words_of(one: Row, places: dict[str, Path]) -> list[str]:
    words = one.line.format(**places).split()
    trains = words[0] == "train" and one in AFTER_TORCH and "dataset" not in one.line
    return [*words, *TINY] if trains else words


@pytest.fixture(scope="module")
def answers(places: dict[str, Path]) -> dict[str, Any]:
    """What is answered to each line before torch is imported: code, text, and whether torch was imported."""
    lines = [words_of(one, places) for one in BEFORE_TORCH]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=places["home"],
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip((one.line for one in BEFORE_TORCH), json.loads(done.stdout), strict=True))


def assert_answered(one: Row, code: int, text: str, places: dict[str, Path]) -> None:
    assert code == one.code, text
    assert text.startswith("deeplabx: "), text
    assert len(text.splitlines()) <= 3, text
    for words in one.said:
        assert words.format(**places) in text, text


@pytest.mark.parametrize("one", BEFORE_TORCH, ids=lambda one: one.line)
def test_a_mistake_is_answered_without_torch(
    one: Row, answers: dict[str, Any], places: dict[str, Path]
) -> None:
    code, text, torch = answers[one.line]
    assert_answered(one, code, text, places)
    assert not torch


@pytest.mark.parametrize("one", AFTER_TORCH, ids=lambda one: one.line)
def test_a_mistake_in_data_or_a_run_is_answered(
    one: Row, deeplabx: Any, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPLABX_OFFLINE", "1")
    ended = deeplabx(*words_of(one, places), DEEPLABX_CACHE=str(tmp_path / "cache"))
    assert_answered(one, ended.code, ended.err, places)


def test_there_are_sixty_rows_and_no_line_twice() -> None:
    lines = [one.line for one in (*BEFORE_TORCH, *AFTER_TORCH)]
    assert len(lines) == len(set(lines)) >= 60
