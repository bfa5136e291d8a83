import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("camvid"), tmp_path / "camvid")


def test_void_is_ignored_and_the_other_ids_stay(root: Path) -> None:
    samples = open_dataset("camvid", root=str(root), split="val")
    image, label = samples[0]
    name = "frame_00004"  # the first of val
    raw = np.array(Image.open(root / "valannot" / f"{name}.png"))
    assert (label == np.where(raw == 11, 255, raw)).all()
    assert (raw == 11).any()
    assert (image == np.array(Image.open(root / "val" / f"{name}.png"))).all()
    assert len(samples.classes) == len(samples.palette) == 11


def test_wrong_roots_say_what_was_expected_and_found(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.root is not set"):
        open_dataset("camvid", root=None, split="val")
    with pytest.raises(DataError, match=r"dataset.root=.*no: there is no such folder\ndownload"):
        open_dataset("camvid", root=str(tmp_path / "no"), split="val")
    with pytest.raises(
        DataError, match=r"must contain test/ and testannot/, but it contains train, trainannot, val"
    ):
        open_dataset("camvid", root=str(root), split="test")
    label = sorted((root / "valannot").iterdir())[1]
    label.unlink()
    with pytest.raises(
        DataError, match=rf"1 of 4 images of .* have no label file, the first: .*{label.name}"
    ):
        open_dataset("camvid", root=str(root), split="val")


def test_an_id_that_is_no_class_names_its_file(root: Path) -> None:
    label = sorted((root / "valannot").iterdir())[0]
    Image.fromarray(np.full((120, 160), 12, np.uint8)).save(label)
    with pytest.raises(DataError, match=rf"{label.name}: id 12 at row 0, column 0"):
        open_dataset("camvid", root=str(root), split="val")[0]


def test_the_real_frames(camvid_root: Path) -> None:
    for split, images in (("train", 367), ("val", 101)):
        samples = open_dataset("camvid", root=str(camvid_root), split=split)
        assert len(samples) == images
        sample = samples[images // 2]
        assert sample.image.shape == (360, 480, 3)
        assert {int(value) for value in np.unique(sample.label)} <= {*range(11), 255}
