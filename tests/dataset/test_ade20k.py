import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.ade20k import ADE20K
from deeplabx.errors import DataError
from tests.conftest import Root


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("ade20k"), tmp_path / "ADEChallengeData2016")


def test_0_is_ignored_and_1_to_150_are_the_classes(root: Path) -> None:
    samples = ADE20K(root=str(root), split="val")
    raw = np.array(Image.open(samples.pairs[0][1]))
    assert (samples[0].label == np.where(raw == 0, 255, raw.astype(int) - 1)).all()
    assert (raw == 0).any()
    assert [len(set(samples.classes)), len(samples.palette)] == [150, 150]


def test_names_and_colours_are_those_of_the_benchmark() -> None:
    # objectInfo150.txt and color150.mat: first, some, last
    known = {
        1: "wall",
        3: "sky",
        13: "person",
        59: "screen door",
        90: "television",
        131: "screen",
        150: "flag",
    }
    assert {index: ADE20K.classes[index - 1] for index in known} == known
    colours = {
        1: (120, 120, 120),
        3: (6, 230, 230),
        7: (140, 140, 140),
        49: (140, 140, 140),
        150: (92, 0, 255),
    }
    assert {index: ADE20K.palette[index - 1] for index in colours} == colours


def test_the_root_may_be_the_parent_and_splits_the_published_folders(root: Path) -> None:
    for base, split in ((root, "train"), (root.parent, "train"), (root.parent, "training")):
        samples = ADE20K(root=str(base), split=split)
        assert len(samples) == 4
        assert samples.pairs[0][0].parent == root / "images/training"
    with pytest.raises(DataError, match="dataset split test is not a split of ADE20K: train, val"):
        ADE20K(root=str(root), split="test")
    with pytest.raises(
        DataError, match=r"must contain images/training/ and annotations/training/, but it contains"
    ):
        ADE20K(root=str(root / "images"), split="train")
    next((root / "annotations/training").iterdir()).unlink()
    with pytest.raises(DataError, match="1 of 4 images of .* have no label file"):
        ADE20K(root=str(root), split="train")


def test_an_id_above_150_is_named(root: Path) -> None:
    samples = ADE20K(root=str(root), split="val")
    Image.fromarray(np.full((120, 160), 151, np.uint8)).save(samples.pairs[0][1])
    with pytest.raises(DataError, match="id 151 at row 0, column 0 is neither a class nor void"):
        samples.label(0)


def test_the_real_samples(real_root: Root, tmp_path: Path) -> None:
    given = real_root("other") / "ade20k_sceneparsing"
    for kind in ("images", "annotations"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "validation").symlink_to(given / kind)
    samples = ADE20K(root=str(tmp_path), split="val")
    assert len(samples) == 3
    found: set[str] = set()
    for index in range(3):
        image, label = samples[index]
        assert image.shape[:2] == label.shape
        found |= {samples.classes[value] for value in np.unique(label) if value != 255}
    assert {"wall", "building", "sky", "tree", "road"} <= found
