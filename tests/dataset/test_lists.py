"""Lists of images and masks, as people write them."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.folder import folder
from deeplabx.dataset.problems import collecting
from deeplabx.errors import DataError
from tests.conftest import Root

TWO = [
    ("scans/image_00001.jpg", "drawings/image_00001_ids.png"),
    ("scans/image_00000.jpg", "drawings/image_00000_ids.png"),
]


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("folder/list"), tmp_path / "own, mine")


def opened(root: Path, **settings: Any) -> LabelledFiles:
    return folder(root=str(root), split=settings.pop("split", "train"), format="list", **settings)


@pytest.mark.parametrize(
    ("name", "row", "head"),
    [
        ("train.csv", "{0},{1}", ""),
        ("train.csv", "{0},{1}", "image,label"),
        ("train.csv", "{0}, {1}", "Image, Mask"),
        ("train.csv", '"{0}","{1}"', ""),
        ("train.csv", '"{0}";"{1}"', '"picture";"ids"'),
        ("train.csv", "7,{1},dog,{0}", "id,mask_path,note,image_path"),
        ("train.txt", "{0} {1}", ""),
        ("train.txt", "{0}\t{1}", ""),
        ("train.tsv", "{0}\t{1}", "file_name\tmask"),
        ("train.csv", "./{0},./{1}", ""),
        ("train.csv", "{root}/{0},{root}/{1}", ""),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_each_way_to_write_a_list(root: Path, name: str, row: str, head: str, encoding: str) -> None:
    (root / "train.csv").unlink()
    if "{root}" in row:
        root = root.rename(root.with_name("own"))
    lines = [head] * bool(head) + [row.format(*pair, root=root.absolute()) for pair in TWO]
    (root / name).write_text("\r\n".join(lines) + "\r\n\r\n", encoding=encoding)
    samples = opened(root)
    found = [tuple(path.relative_to(root).as_posix() for path in pair) for pair in samples.pairs]
    assert found == TWO
    assert samples[0].label.shape == (120, 160)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("../a.jpg,b.png", r"train.csv: '../a.jpg' leads out of the data set's folder\npaths are relative"),
        ("/etc/a.jpg,b.png", "'/etc/a.jpg' leads out"),
        ("/etc/passwd,/etc/shadow", "'/etc/passwd' leads out"),  # not the names of columns
        ("a.dcm,b.nii\nscans/image_00001.jpg,drawings/image_00001_ids.png", "first: .*a.dcm"),
        ("a.jpg,C:/b.png", "have no image file"),
        ("a.jpg", "has 1 columns: a.jpg; which are image and label"),
        ("a.jpg,b.png,c.png", "has 3 columns: a.jpg, b.png, c.png; which are"),
        ("image,image\na.jpg,b.png", "has 2 columns: image, image; which are"),
        ("a.jpg,b.png\nc.jpg", r"line 2 has 1 columns, the first has 2: 'c.jpg'"),
        ("\n\na.jpg,b.png\n\n\nc.jpg", "line 6 has 1 columns"),
        ("a/1.jpg,b.png\n./a//1.jpg,b.png", r"'a/1.jpg' is on line 1 and again on line 2"),
        ("a.jpg,b.png\nc, d.jpg,e.png", "line 2 has 3 columns"),
        ("image,label", "lists no images"),
        ("a.jpg,", "a path is empty"),
        ('"a.jpg,b.png', "which are image and label|not a list of two columns"),
        ("", "lists no names"),
        ("a.jpg,b.png\na.jpg,b.png", r"'a.jpg' is on line 1 and again on line 2"),
        (
            "scans/image_00001.jpg,no.png",
            r"1 of 1 images of .*train.csv have no label file, the first: .*no.png",
        ),
        ("a" * 10_001, "a line has more than 10000 characters"),
    ],
)
def test_a_bad_list_is_an_error_in_words(root: Path, text: str, words: str) -> None:
    (root / "train.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        opened(root)


def test_a_first_line_of_unknown_names_is_said(root: Path) -> None:
    row = ",".join(TWO[0])
    (root / "train.csv").write_text(f"picture,ids\n{row}\n", encoding="utf-8")
    (words,) = opened(root).left_out
    assert words.endswith("train.csv: the first line is taken as the names of the columns: picture,ids")
    (root / "train.csv").write_text(f"image,label,split.of\n{row},x\n", encoding="utf-8")
    samples = opened(root)
    assert (len(samples), samples.left_out) == (1, [])


def test_which_list_is_meant(root: Path) -> None:
    with pytest.raises(DataError, match=r"the list of split test is test.csv or test.txt, but .* has none"):
        opened(root, split="test")
    (root / "train.txt").write_text("a b", encoding="utf-8")
    with pytest.raises(DataError, match=r"the list of split train .* has train.csv, train.txt"):
        opened(root)
    with pytest.raises(
        DataError, match=r"splits one list of all images, but .* has train.csv, train.txt, val.csv"
    ):
        opened(root, val_fraction=0.5)
    for settings, words in (
        ({"annotations": "train.csv"}, "the list of all images, which must be split"),
        ({"annotations": "no.csv", "folds": 2, "fold": 0}, "has no such file"),
        ({"annotations": "../x.csv", "folds": 2, "fold": 0}, "leads out"),
    ):
        with pytest.raises(DataError, match=words):
            opened(root, **settings)


def test_one_list_is_split_whatever_its_order(root: Path) -> None:
    def names(split: str) -> list[str]:
        found = opened(root, split=split, annotations="train.csv", folds=2, fold=1)
        return [image.name for image, _ in found.pairs]

    first = {split: names(split) for split in ("train", "val")}
    assert sorted(first["train"] + first["val"]) == [f"image_0000{number}.jpg" for number in range(4)]
    head, *lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join([head, *lines[::-1]]))
    assert {split: names(split) for split in ("train", "val")} == first


def test_missing_files_are_collected(root: Path) -> None:
    (root / "scans/image_00001.jpg").unlink()
    with collecting() as problems:
        samples = opened(root)
    assert len(problems) == 1
    assert len(samples) == 3
