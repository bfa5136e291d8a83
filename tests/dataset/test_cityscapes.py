import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers import labels as official
from PIL import Image

from deeplabx.dataset.cityscapes import CLASS_TABLE, FROM_LABEL_IDS, Cityscapes
from deeplabx.errors import DataError
from tests.conftest import Root


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("cityscapes"), tmp_path / "cityscapes")


def test_the_table_is_the_official_one() -> None:
    for label in official.labels:
        if label.id >= 0:
            assert FROM_LABEL_IDS[label.id] == label.trainId
        if label.trainId not in (255, -1):
            ours = CLASS_TABLE[label.trainId]
            assert (ours.name, ours.label_id, ours.colour) == (label.name, label.id, label.color)
    assert len(CLASS_TABLE) == 19


def test_train_ids_are_taken_where_there_are_no_label_ids(root: Path) -> None:
    by_label_ids = [
        sample.label for sample in map(Cityscapes(root=str(root), split="val").__getitem__, range(4))
    ]
    for path in (root / "gtFine" / "val").rglob("*_labelIds.png"):
        train_ids = np.vectorize(FROM_LABEL_IDS.__getitem__)(np.array(Image.open(path))).astype(np.uint8)
        Image.fromarray(train_ids).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
        path.unlink()
    by_train_ids = [
        sample.label for sample in map(Cityscapes(root=str(root), split="val").__getitem__, range(4))
    ]
    assert all((a == b).all() for a, b in zip(by_label_ids, by_train_ids, strict=True))


def test_coarse_labels_are_splits_of_their_own(root: Path) -> None:
    shutil.rmtree(root / "gtFine" / "train")
    samples = Cityscapes(root=str(root), split="train_coarse")
    assert {path.name.split("_")[3] for _, path in samples.pairs} == {"gtCoarse"}
    with pytest.raises(DataError, match=r"must contain leftImg8bit/train/ and gtFine/train/"):
        Cityscapes(root=str(root), split="train")
    with pytest.raises(DataError, match=r"must contain leftImg8bit/train_extra/ and gtCoarse/train_extra/"):
        Cityscapes(root=str(root), split="train_extra")


def test_trainval_is_both(root: Path) -> None:
    assert len(Cityscapes(root=str(root), split="trainval")) == 8


def test_wrong_roots_splits_and_labels(root: Path) -> None:
    with pytest.raises(DataError, match="dataset.root is not set: dataset=cityscapes needs a folder"):
        Cityscapes(root=None, split="train")
    with pytest.raises(
        DataError, match="split test is not a split of Cityscapes.*\nits labels are not public: deeplabx"
    ):
        Cityscapes(root=str(root), split="test")
    label = next((root / "gtFine" / "val").rglob("*_labelIds.png"))
    Image.fromarray(np.full((128, 256), 200, np.uint8)).save(label)
    with pytest.raises(DataError, match=f"{label.name}: id 200 at row 0, column 0"):
        [Cityscapes(root=str(root), split="val")[index] for index in range(4)]
    label.unlink()
    with pytest.raises(
        DataError, match=f"1 of 4 images of .*split val have no label file, the first: .*{label.name}"
    ):
        Cityscapes(root=str(root), split="val")


def test_the_real_frames(real_root: Root) -> None:
    for split, images in (("train", 8), ("val", 3)):
        samples = Cityscapes(root=str(real_root("cityscapes")), split=split)
        assert len(samples) == images
        image, label = samples[0]
        name = samples.pairs[0][0].stem
        assert image.shape == (1024, 2048, 3)
        assert label.shape == (1024, 2048)
        assert {int(value) for value in np.unique(label)} <= {*range(19), 255}
        assert name.endswith("leftImg8bit")
