import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from deeplabx.dataset.coco_stuff import CLASSES, IDS, PALETTE, COCOStuff10k, COCOStuff164k
from deeplabx.errors import DataError
from tests.conftest import Root

# Ids, names of labels.txt.
KNOWN = {
    1: "person",
    13: "stop sign",
    90: "toothbrush",
    92: "banner",
    124: "grass",
    157: "sky-other",
    182: "wood",
}


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("coco_stuff164k"), tmp_path / "coco")


@pytest.fixture
def root_10k(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("coco_stuff10k"), tmp_path / "coco10k")


def test_the_classes_are_80_things_and_91_stuff() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == len(set(PALETTE)) == len(IDS) == 171
    assert sum(number <= 91 for number in IDS) == 80
    assert {number: CLASSES[IDS.index(number)] for number in KNOWN} == KNOWN
    assert not {"street sign", "hat", "hair brush"} & set(CLASSES)


def test_pixels_are_the_id_less_1_and_255_is_ignored(root: Path) -> None:
    samples = COCOStuff164k(root=str(root), split="train")
    raw = np.array(Image.open(samples.pairs[0][1]))
    label = samples[0].label
    assert ((label == 255) == (raw == 255)).all()
    for value in np.unique(raw[raw != 255]).tolist():
        assert np.unique(label[raw == value]).tolist() == [IDS.index(value + 1)]


@pytest.mark.parametrize("removed", [11, 25, 90, 182])
def test_the_removed_classes_are_unknown_ids(root: Path, removed: int) -> None:
    """Such as those of labels that somebody has turned into train ids."""
    samples = COCOStuff164k(root=str(root), split="val2017")
    Image.fromarray(np.full((120, 160), removed, np.uint8)).save(samples.pairs[0][1])
    with pytest.raises(DataError, match=f"id {removed} at row 0, column 0 is neither a class nor void"):
        samples.label(0)


def test_the_labels_may_be_in_annotations(root: Path) -> None:
    (root / "stuffthingmaps").rename(root / "annotations")
    assert len(COCOStuff164k(root=str(root), split="val")) == 4
    with pytest.raises(DataError, match=r"must contain images/train2017/ and stuffthingmaps/train2017/"):
        COCOStuff164k(root=str(root / "images"), split="train")
    with pytest.raises(DataError, match="dataset split test is not a split of COCO-Stuff 164K"):
        COCOStuff164k(root=str(root), split="test")


def test_10k_is_read_from_mat_files_by_its_lists(root_10k: Path) -> None:
    names = {
        split: [image.stem for image, _ in COCOStuff10k(root=str(root_10k), split=split).pairs]
        for split in ("train", "val", "test", "all")
    }
    assert names["val"] == names["test"] != names["train"]
    assert names["all"] == names["train"] + names["val"]
    raw = np.array([[0, 1, 13], [92, 182, 90]], np.uint8)
    samples = COCOStuff10k(root=str(root_10k), split="train")
    savemat(samples.pairs[0][1], {"S": raw.astype(np.float64), "names": 1})
    assert samples.label(0).tolist() == [[255, 0, 11], [80, 170, 79]]


def test_10k_of_version_1_0_or_of_something_else(root_10k: Path) -> None:
    samples = COCOStuff10k(root=str(root_10k), split="train")
    savemat(samples.pairs[0][1], {"S": np.full((2, 2), 12, np.uint8)})
    with pytest.raises(DataError, match="id 12 at row 0, column 0 is neither a class nor void"):
        samples.label(0)
    for content, words in (
        ({"X": 1}, "is not one of COCO-Stuff's label files: KeyError"),
        ({"S": "text"}, "S is not a matrix of ids"),
        ({"S": np.full((2, 2), 0.5)}, "S has numbers that are not whole"),
        ({"S": np.full((2, 2), np.nan)}, "ids are not from 0 to 65535"),
    ):
        savemat(samples.pairs[0][1], content)
        with pytest.raises(DataError, match=words):
            samples.label(0)
    samples.pairs[0][1].write_bytes(b"no file of Matlab's")
    with pytest.raises(DataError, match="is not one of COCO-Stuff's label files"):
        samples.label(0)


def test_10k_wrong_roots(root_10k: Path) -> None:
    with pytest.raises(DataError, match=r"must contain images/, annotations/ and imageLists/train.txt"):
        COCOStuff10k(root=str(root_10k / "images"), split="train")
    (root_10k / "imageLists/train.txt").write_text("no\n")
    with pytest.raises(DataError, match="1 of 1 images of .*train.txt have no image file"):
        COCOStuff10k(root=str(root_10k), split="train")
    (root_10k / "imageLists/train.txt").write_text("../no\n")
    with pytest.raises(DataError, match="leads out of the data set's folder"):
        COCOStuff10k(root=str(root_10k), split="train")


def test_the_real_samples(real_root: Root, tmp_path: Path) -> None:
    given = real_root("other") / "coco_stuff_SPADE"
    for split in ("train", "val"):
        for kind, target in (("img", "images"), ("label", "stuffthingmaps")):
            (tmp_path / target).mkdir(exist_ok=True)
            (tmp_path / target / f"{split}2017").symlink_to(given / f"{split}_{kind}")
    found: set[str] = set()
    for split, images in (("train", 13), ("val", 8)):
        samples = COCOStuff164k(root=str(tmp_path), split=split)
        assert len(samples) == images
        for index in range(images):
            image, label = samples[index]
            assert image.shape[:2] == label.shape
            found |= {samples.classes[value] for value in np.unique(label) if value != 255}
    assert {"person", "grass", "sky-other", "tree", "wall-concrete"} <= found
