import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from deeplabx.dataset.pascal_context import CLASSES, PascalContext
from deeplabx.errors import DataError
from tests.conftest import Root


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("pascal_context"), tmp_path / "context")


def test_59_classes_in_the_order_of_the_ids() -> None:
    assert len(CLASSES) == len(set(PascalContext.palette)) == 59
    assert sorted(CLASSES) == CLASSES
    # issue 1940 of mmsegmentation: 55 and 58 of an image of a bus and a window are wall and window
    assert [CLASSES[index - 1] for index in (1, 2, 13, 58, 59)] == [
        "aeroplane",
        "bag",
        "cabinet",
        "window",
        "wood",
    ]


def test_background_is_ignored_or_the_first_of_60(root: Path) -> None:
    samples = PascalContext(root=str(root), split="val")
    raw = np.array(Image.open(samples.pairs[0][1])).astype(int)
    assert (raw == 0).any()
    assert (samples[0].label == np.where(raw == 0, 255, raw - 1)).all()
    with_background = PascalContext(root=str(root), split="val", background=True)
    assert (with_background[0].label == raw).all()
    assert (with_background.classes[0], len(with_background.classes)) == ("background", 60)
    assert len(with_background.palette) == 60
    assert len(PascalContext.classes) == 59


def as_published(year: Path) -> Path:
    """The original distribution: .mat files of 459 ids, and the names in two files, each in its own order."""
    others = [f"thing{number}" for number in range(459 - 59)]
    names = sorted([*CLASSES, *others])
    (year / "trainval").mkdir()
    for path in sorted((year / "SegmentationClassContext").iterdir()):
        raw = np.array(Image.open(path))
        ids = np.array([names.index(others[7]) + 1, *(names.index(name) + 1 for name in CLASSES)], np.uint16)
        savemat(year / "trainval" / f"{path.stem}.mat", {"LabelMap": ids[raw]})
    shutil.rmtree(year / "SegmentationClassContext")
    (year / "labels.txt").write_text(
        "\n".join(f"{number}: {name}" for number, name in enumerate(names, start=1))
    )
    mixed = [CLASSES[index] for index in np.random.default_rng(0).permutation(59)]
    text = "\n".join(f"{number}: {name}" for number, name in enumerate(mixed, start=1))
    (year / "59_labels.txt").write_text(text.replace("pottedplant", "potted plant"))
    return year


def test_the_original_mat_files_give_the_same_labels(root: Path) -> None:
    before = [PascalContext(root=str(root), split="val")[index].label for index in range(4)]
    year = as_published(root / "VOCdevkit" / "VOC2010")
    lists = year / "ImageSets"
    (lists / "SegmentationContext").rename(lists / "Main")  # VOC 2010 has the same lists there
    samples = PascalContext(root=str(year), split="val")
    for index in range(4):
        np.testing.assert_array_equal(samples[index].label, before[index])
    savemat(samples.pairs[0][1], {"LabelMap": np.full((2, 2), 460)})
    with pytest.raises(DataError, match="id 460 at row 0, column 0 is neither"):
        samples.label(0)


def test_names_that_do_not_fit(root: Path) -> None:
    year = as_published(root / "VOCdevkit" / "VOC2010")
    names = (year / "labels.txt").read_text()
    for text, words in (
        (names.replace("wood", "would"), "labels.txt has no wood"),
        ("1: a\n1: b", "'1: b' is not a line such as `2: aeroplane`, each id once"),
        ("wood", "'wood' is not a line such as"),
    ):
        (year / "labels.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            PascalContext(root=str(root), split="val")
    (year / "labels.txt").unlink()
    with pytest.raises(DataError, match="labels.txt is missing: it says what the ids in trainval/ mean"):
        PascalContext(root=str(root), split="val")
    (year / "labels.txt").write_text(names)
    (year / "59_labels.txt").write_text("1: aeroplane")
    with pytest.raises(DataError, match="59_labels.txt does not have the 59 classes"):
        PascalContext(root=str(root), split="val")


def test_wrong_roots(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"must contain JPEGImages/ and SegmentationClassContext/ or trainval/"
    ):
        PascalContext(root=str(root / "VOCdevkit/VOC2010/ImageSets"), split="train")
    with pytest.raises(DataError, match="dataset split test is not a split of Pascal-Context: train, val"):
        PascalContext(root=str(root), split="test")
    shutil.rmtree(root / "VOCdevkit/VOC2010/ImageSets")
    with pytest.raises(
        DataError, match="has no list of split train: looked for ImageSets/SegmentationContext/"
    ):
        PascalContext(root=str(root), split="train")
