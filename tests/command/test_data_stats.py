"""deeplabx data stats, from the command line to its files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.fake import write_fake
from deeplabx.process.terminal import columns
from tests.conftest import Deeplabx
from tests.report.page.parsed import Parsed

RNG = np.random.default_rng(0)


def own_set(root: Path, *, classes: str = "[road, car]") -> list[np.ndarray]:
    """A folder of three images in train and one in val; the masks of train."""
    masks = []
    for split, count in (("train", 3), ("val", 1)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            mask = RNG.integers(0, 2, (40, 50)).astype(np.uint8)
            Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).save(
                root / f"images/{split}/{number}.png"
            )
            Image.fromarray(mask).save(root / f"masks/{split}/{number}.png")
            masks += [mask] if split == "train" else []
    (root / "classes.yaml").write_text(f"classes: {classes}\n", encoding="utf-8")
    return masks


def test_it_writes_the_numbers_as_json_and_as_a_page(deeplabx: Deeplabx, tmp_path: Path) -> None:
    masks = own_set(tmp_path / "own")
    ended = deeplabx("data", "stats", "dataset=folder", "dataset.root=own", "workers=0", "out=found here")
    assert (ended.code, ended.err) == (0, "")
    table = json.loads((tmp_path / "found here" / "stats.json").read_text(encoding="utf-8"))
    ones = sum(int(mask.sum()) for mask in masks)
    assert table["splits"]["train"]["classes"]["car"]["pixels"] == ones
    assert table["splits"]["val"]["images"] == 1
    assert table["suggested"]["augment.crop_size"] == 33
    page = Parsed((tmp_path / "found here" / "stats.html").read_text(encoding="utf-8"))
    assert page.problems == []
    assert f"{ones:,}" in page.text
    assert "augment.crop_size=33" in page.inside["code"]
    *_, last = ended.out.splitlines()
    assert last == f"written to {tmp_path}/found here/stats.html and stats.json"
    assert f"{100 * ones / 6000:.1f} %" in ended.out
    weights = table["suggested"]["loss.class_weights"]["enet"]
    assert f"'loss.class_weights=[{weights[0]:g},{weights[1]:g}]'" in ended.out


def test_weights_can_be_copied_into_a_command(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("data", "stats", "dataset.train_images=3", "dataset.val_images=1", "workers=0", "out=x")
    assert ended.code == 0, ended.err
    line = next(line for line in ended.out.splitlines() if "loss.class_weights" in line)
    words = line.partition("#")[0].strip().strip("'")
    assert deeplabx("train", words, "--cfg", "job").code == 0


def test_the_default_folder_is_one_of_the_time(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("data", "stats", "dataset.train_images=2", "dataset.val_images=1", "workers=0")
    (folder,) = (tmp_path / "outputs" / "data").iterdir()
    assert sorted(one.name for one in folder.iterdir()) == ["stats.html", "stats.json"]
    assert ended.out.endswith(f"written to {folder}/stats.html and stats.json\n")


def test_each_job_of_a_sweep_has_a_folder(deeplabx: Deeplabx, tmp_path: Path) -> None:
    words = ("dataset.train_images=2,3", "dataset.val_images=1", "workers=0")
    assert deeplabx("data", "stats", "-m", *words).code == 0
    tables = sorted((tmp_path / "outputs" / "sweep").rglob("stats.json"))
    counts = [json.loads(one.read_text(encoding="utf-8"))["splits"]["train"]["images"] for one in tables]
    assert counts == [2, 3]


@pytest.mark.parametrize("name", ["voc", "cityscapes", "camvid"])
def test_every_data_set_of_files(name: str, deeplabx: Deeplabx, tmp_path: Path) -> None:
    write_fake(name, tmp_path / "fake", images=2, seed=0)
    ended = deeplabx(
        "data", "stats", f"dataset={name}", "dataset.root=fake", "splits=[val]", "workers=0", "out=x"
    )
    assert (ended.code, ended.err) == (0, "")
    table = json.loads((tmp_path / "x" / "stats.json").read_text(encoding="utf-8"))
    assert list(table["splits"]) == ["val"]
    assert table["suggested"]["of_split"] == "val"


def test_an_unreadable_file_is_an_error_or_is_named(deeplabx: Deeplabx, tmp_path: Path) -> None:
    own_set(tmp_path / "own")
    (tmp_path / "own/masks/train/1.png").write_bytes(b"hello")
    words = ("data", "stats", "dataset=folder", "dataset.root=own", "workers=0", "out=x")
    ended = deeplabx(*words)
    assert ended.code == 3
    assert "1 of 3 images of split train cannot be used, the first: own/masks/train/1.png" in ended.err
    assert not (tmp_path / "x" / "stats.json").exists()
    ended = deeplabx(*words, "dataset.on_bad=skip")
    assert (ended.code, ended.err) == (0, "")
    table = json.loads((tmp_path / "x" / "stats.json").read_text(encoding="utf-8"))
    assert len(table["splits"]["train"]["unreadable"]) == 1
    assert "1 of 3 images of train were not counted" in Parsed((tmp_path / "x/stats.html").read_text()).text


def test_wide_names_of_classes_are_aligned(deeplabx: Deeplabx, tmp_path: Path) -> None:
    own_set(tmp_path / "own", classes="[道路と歩道, '<script>alert(1)</script>']")
    ended = deeplabx("data", "stats", "dataset=folder", "dataset.root=own", "workers=0", "out=x")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("class "))
    assert len({columns(line) for line in lines[start : start + 4]}) == 1
    page = Parsed((tmp_path / "x/stats.html").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert "道路と歩道" in page.text


def test_a_split_that_is_not_there(deeplabx: Deeplabx) -> None:
    ended = deeplabx("data", "stats", "splits=[test]", "out=x")
    assert ended.code == 3
    assert "test is not a split of shapes" in ended.err
