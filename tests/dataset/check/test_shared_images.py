import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deeplabx.dataset.check import shared_images as module
from deeplabx.dataset.check.shared_images import shared_images
from deeplabx.run.build import open_dataset
from tests.conftest import Root, TrainTiny


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("folder"), tmp_path / "own")


def found(root: Path) -> list[str]:
    training, validation = (open_dataset("folder", root=str(root), split=split) for split in ("train", "val"))
    return shared_images(training, validation)


def copied(image: Path, name: Path) -> None:
    shutil.copy(image, name)


def linked(image: Path, name: Path) -> None:
    name.symlink_to(image)


def hard_linked(image: Path, name: Path) -> None:
    os.link(image, name)


@pytest.mark.parametrize(
    ("make", "name", "shared"),
    [
        (copied, "image_00000.jpg", True),
        (copied, "deep/image_00000.jpg", True),
        (copied, "other.jpg", False),  # only its content is the same
        (linked, "other.jpg", True),
        (hard_linked, "other.jpg", True),
    ],
)
def test_an_image_of_both_splits_is_said(
    root: Path, make: Callable[[Path, Path], None], name: str, shared: bool
) -> None:
    (root / "images/val" / name).parent.mkdir(exist_ok=True)
    (root / "masks/val" / name).parent.mkdir(exist_ok=True)
    make(root / "images/train/image_00000.jpg", root / "images/val" / name)
    shutil.copy(root / "masks/train/image_00000.png", (root / "masks/val" / name).with_suffix(".png"))
    words = found(root)
    assert len(words) == shared
    if shared:
        assert words[0].startswith("warning: 1 of 5 images of val are training images too, the first: ")
        assert f"val/{name} is {root}/images/train/image_00000.jpg; the mIoU is too high" in words[0]


def test_files_of_one_name_and_size_and_another_content_are_not_shared(root: Path) -> None:
    content = bytearray((root / "images/train/image_00000.jpg").read_bytes())
    for change in (0, len(content) - 1):  # in the head, and after it
        content[change] ^= 1
        (root / "images/val/image_00000.jpg").write_bytes(content)
        shutil.copy(root / "masks/train/image_00000.png", root / "masks/val/image_00000.png")
        assert found(root) == []


def test_only_files_of_one_name_and_size_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(kept: module.Kept) -> None:
        raise AssertionError(kept.path)

    monkeypatch.setattr(module, "name_and_head", read)
    assert found(root) == []
    shutil.copy(root / "images/train/image_00000.jpg", root / "images/val/image_00000.jpg")
    shutil.copy(root / "masks/train/image_00000.png", root / "masks/val/image_00000.png")
    with pytest.raises(AssertionError, match="image_00000"):
        found(root)


def test_lists_that_overlap_are_said(fake_root: Root) -> None:
    samples = [open_dataset("voc", root=str(fake_root("voc")), split=split) for split in ("trainval", "val")]
    (words,) = shared_images(*samples)
    assert words.startswith("warning: 4 of 4 images of val are training images too, the first: ")
    assert " is " not in words.split("first: ")[1].split(";")[0]


def test_a_file_that_is_gone_is_left_to_the_reader(root: Path) -> None:
    training, validation = (open_dataset("folder", root=str(root), split=split) for split in ("train", "val"))
    shutil.rmtree(root / "images")
    assert shared_images(training, validation) == []


def test_a_set_without_files_has_none(fake_root: Root) -> None:
    sets = [open_dataset("shapes", split=split, train_images=2, val_images=2) for split in ("train", "val")]
    assert shared_images(*sets) == []


def test_training_says_it_once_before_the_first_step(
    train_tiny: TrainTiny, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_tiny("run", "dataset.split=train", "schedule.max_iters=1")
    log = (folder / "train.log").read_text()
    words = "warning: training and validation are both split train: "
    assert log.count(words) == capsys.readouterr().out.count(words) == 1
    assert log.index(words) < log.index("step 1/")
