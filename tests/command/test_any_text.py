"""Names of any bytes and classes of any script: what is printed, what is written, and what reads it back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import TINY, Deeplabx, Root

BYTES = os.fsdecode(b"caf\xe9 \xff(1)")  # not UTF-8: an archive from Windows, an old disk
ESCAPED = r"caf\udce9 \udcff(1)"
OTHERS = ["背景 photo", "a\nb\x1b[2J", "\u202egpj.x", "e\u0301 ~#'"]
SHOWN = {
    BYTES: ESCAPED,
    **{name: name for name in OTHERS},
    "a\nb\x1b[2J": r"a\nb\x1b[2J",
    "\u202egpj.x": r"\u202egpj.x",
}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FOLDER = ["dataset=folder", *(one for one in TINY if not one.startswith("dataset."))]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8")  # strict, whatever the locale


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("folder"), tmp_path / BYTES)


def rename_first(root: Path, split: str, stem: str) -> Path:
    """Give the first pair of a split another name; the image."""
    image = sorted((root / "images" / split).iterdir())[0]
    mask = root / "masks" / split / f"{image.stem}.png"
    mask.rename(mask.with_name(f"{stem}.png"))
    return image.rename(image.with_name(f"{stem}.jpg"))


@pytest.mark.slow
def test_a_run_of_folders_that_are_not_utf8(deeplabx: Deeplabx, root: Path, tmp_path: Path) -> None:
    rename_first(root, "train", BYTES)
    run = tmp_path / f"run{BYTES}"
    ended = deeplabx("train", *FOLDER, f"dataset.root={root}", f"hydra.run.dir={run}")
    assert ended.code == 0, ended.err
    assert f"in {tmp_path}/run{ESCAPED}" in ended.out
    assert ESCAPED in text_of(run / "train.log")
    assert yaml.safe_load(text_of(run / "config.yaml"))["dataset"]["root"] == str(root)
    assert f"dataset.root='{root}'" in yaml.safe_load(text_of(run / "overrides.yaml"))
    assert json.loads(text_of(run / "result.json"))["images"] == 4
    assert list((run / "tensorboard").glob("events*"))
    for words in (["resume", str(run)], ["eval", str(run)]):
        ended = deeplabx(*words)
        assert ended.code == 0, ended.err
    ended = deeplabx("predict", str(run), str(root / "images" / "train"), f"out=out{BYTES}")
    assert ended.code == 0, ended.err
    assert (tmp_path / f"out{BYTES}" / f"{BYTES}.png").is_file()


@pytest.mark.parametrize("stem", [BYTES, OTHERS[1]])
def test_a_broken_file_of_any_name_leaves_its_words(
    deeplabx: Deeplabx, root: Path, tmp_path: Path, stem: str
) -> None:
    for image in sorted((root / "images" / "train").iterdir())[1:]:
        image.unlink()
        (root / "masks" / "train" / f"{image.stem}.png").unlink()
    image = rename_first(root, "train", stem)
    image.write_bytes(image.read_bytes()[:-200])  # damage that its header does not show
    ended = deeplabx("train", *FOLDER, f"dataset.root={root}", "trainer.batch_size=2", "hydra.run.dir=run")
    assert ended.code == 3, ended.err
    assert f"{SHOWN[stem]}.jpg: image file is truncated" in ended.err
    assert len(ended.err.splitlines()) <= 3
    left = text_of(tmp_path / "run" / "FAILED")
    assert "image file is truncated" in left
    assert "\x1b" not in left


def test_skipped_files_of_any_name_are_listed(deeplabx: Deeplabx, root: Path, tmp_path: Path) -> None:
    first = sorted((root / "images" / "train").iterdir())[0]
    for name in SHOWN:
        (first.with_name(f"{name}.jpg")).write_bytes(b"no image")
        shutil.copy(root / "masks" / "train" / f"{first.stem}.png", root / "masks" / "train" / f"{name}.png")
    settings = [f"dataset.root={root}", "dataset.on_bad=skip", "schedule.max_iters=6", "hydra.run.dir=run"]
    ended = deeplabx("train", *FOLDER, *settings, "trainer.eval_every=3")
    assert ended.code == 0, ended.err
    listed = text_of(tmp_path / "run" / "unreadable.txt").splitlines()
    assert len(listed) == len(SHOWN)  # each once
    for shown in SHOWN.values():
        assert sum(f"/{shown}.jpg: not a readable image" in line for line in listed) == 1


# What the shell hands over in a locale without UTF-8: the file system is ascii too.
IN_TURN = """
import sys
from deeplabx import cli
own = []
for word in sys.argv[1:]:
    if word != ";":
        own.append(word)
        continue
    try:
        cli.main(own)
    except SystemExit as ended:
        print("exit", ended.code)
    own = []
"""


@pytest.mark.slow
def test_classes_of_any_script_in_the_c_locale(fake_root: Root, tmp_path: Path) -> None:
    root = shutil.copytree(fake_root("folder"), tmp_path / "данные")
    content = yaml.safe_load((root / "classes.yaml").read_text(encoding="utf-8"))
    names = ["背景", "طريق", "здание", "도로", "ถนน", "a b", "é"][: len(content["classes"])]
    content["classes"] = dict(zip(names, content["classes"].values(), strict=False))
    (root / "classes.yaml").write_text(
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    words = ["train", *FOLDER, "schedule.max_iters=1", f"dataset.root={root}", "hydra.run.dir=дом", ";"]
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, *words, "eval", "дом", ";"],
        cwd=tmp_path,
        env={**os.environ, **C_LOCALE, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
    )
    printed = done.stdout.decode("ascii") + done.stderr.decode("ascii")
    assert printed.count("exit 0") == 2, printed
    assert r"\u80cc\u666f" in printed
    run = tmp_path / "дом"
    assert list(json.loads(text_of(run / "result.json"))["per_class_iou"]) == names
    (described,) = run.glob("checkpoints/step-*/config.json")
    assert json.loads(text_of(described))["classes"] == names
    assert yaml.safe_load(text_of(run / "config.yaml"))["seed"] == 0


def test_a_table_of_wide_classes_is_in_columns() -> None:
    import torch

    from deeplabx.engine.metrics import metrics, table
    from deeplabx.process.terminal import columns

    rows = table(metrics(torch.eye(3, dtype=torch.int64), ["背景", "road", "道路の標識"])).splitlines()[:3]
    assert {columns(row) for row in rows} == {len("mIoU of labelled classes  1.0000")}
