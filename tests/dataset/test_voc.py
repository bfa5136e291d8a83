import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.voc import VOC
from deeplabx.dataset.writing import write_ids
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root

LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    """A fake VOC that may be changed."""
    return shutil.copytree(fake_root("voc"), tmp_path / "voc")


@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_is_the_devkits_parent_or_the_year(fake_root: Root, place: str) -> None:
    samples = VOC(root=str(fake_root("voc") / place), split="trainval")
    assert len(samples) == 8
    assert samples.classes[15] == "person"


def test_train_aug_is_voc_and_sbd_without_val(root: Path) -> None:
    val = (root / LISTS / "val.txt").read_text().split()
    label = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{val[0]}.png"
    ids = np.array(Image.open(label))
    # SBD has val's too.
    savemat(
        root / "benchmark_RELEASE/dataset/cls" / f"{val[0]}.mat",
        {"GTcls": {"Segmentation": np.zeros_like(ids)}},
    )
    samples = VOC(root=str(root), split="train_aug")
    names = {image.stem for image, _ in samples.pairs}
    assert len(samples) == len(names) == 8  # 4 of train, 4 of SBD alone
    assert not names & set(val)
    assert {path.suffix for _, path in samples.pairs} == {".png", ".mat"}


def test_vocs_own_label_is_taken_before_sbds(root: Path) -> None:
    name = (root / LISTS / "train.txt").read_text().split()[0]
    savemat(
        root / "benchmark_RELEASE/dataset/cls" / f"{name}.mat",
        {"GTcls": {"Segmentation": np.zeros((120, 160), np.uint8)}},
    )
    samples = VOC(root=str(root), split="train_aug")
    assert next(path for image, path in samples.pairs if image.stem == name).suffix == ".png"


def test_sbds_labels_are_the_matrix_in_the_file(root: Path) -> None:
    expected = np.random.default_rng(0).integers(0, 21, (120, 160), dtype=np.uint8)
    path = next((root / "benchmark_RELEASE/dataset/cls").glob("*.mat"))
    savemat(
        path,
        {"GTcls": {"Boundaries": np.zeros((20, 1)), "Segmentation": expected, "CategoriesPresent": [1, 2]}},
    )
    samples = VOC(root=str(root), split="train_aug")
    (index,) = [index for index, (_, label) in enumerate(samples.pairs) if label.stem == path.stem]
    assert (samples[index].label == expected).all()


def test_segmentation_class_aug_is_used_where_it_is(root: Path) -> None:
    voc = root / "VOCdevkit/VOC2012"
    names = [path.stem for path in sorted((voc / "JPEGImages").iterdir())]
    for name in names:
        write_ids(
            voc / "SegmentationClassAug" / f"{name}.png", np.full((120, 160), 3, np.uint8), voc_palette(21)
        )
    samples = VOC(root=str(root), split="train_aug")
    assert len(samples) == 8  # without a list: all but val's four
    assert (samples[0].label == 3).all()
    (root / LISTS / "trainaug.txt").write_text(f"{names[0]}\n{names[9]}\n")
    assert len(VOC(root=str(root), split="train_aug")) == 2
    (root / LISTS / "train_aug.txt").write_text(
        f"/JPEGImages/{names[9]}.jpg /SegmentationClassAug/{names[9]}.png\n"
    )
    (pair,) = VOC(root=str(root), split="train_aug").pairs
    assert [path.stem for path in pair] == [names[9], names[9]]


def test_train_aug_leaves_val_out_whatever_its_list_says(root: Path) -> None:
    voc = root / "VOCdevkit/VOC2012"
    val, train = ((root / LISTS / f"{split}.txt").read_text().split() for split in ("val", "train"))
    for name in (*val, *train):
        write_ids(
            voc / "SegmentationClassAug" / f"{name}.png", np.zeros((120, 160), np.uint8), voc_palette(21)
        )
    (root / LISTS / "train_aug.txt").write_text("\n".join([*train, val[0]]))
    assert {image.stem for image, _ in VOC(root=str(root), split="train_aug").pairs} == set(train)


def test_an_empty_sbd_is_not_the_official_train(root: Path) -> None:
    for path in (root / "benchmark_RELEASE/dataset/cls").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="contains no .mat files"):
        VOC(root=str(root), split="train_aug")


@pytest.mark.parametrize(
    "line", ["{} 1", "\ufeff{}", "{}.jpg", "{}\r", "/JPEGImages/{}.jpg /SegmentationClass/{}.png"]
)
def test_every_way_to_write_a_list_is_read(root: Path, line: str) -> None:
    name = (root / LISTS / "val.txt").read_text().split()[0]
    (root / LISTS / "val.txt").write_text(line.format(name, name) + "\n", encoding="utf-8")
    assert [image.stem for image, _ in VOC(root=str(root), split="val").pairs] == [name]


def test_without_train_aug_it_is_said_how_published_numbers_differ(root: Path) -> None:
    shutil.rmtree(root / "benchmark_RELEASE")
    with pytest.raises(
        DataError,
        match=r"train_aug needs .*SegmentationClassAug.*\n.*train_split=train.* 10,582 images; .* has 1,464",
    ):
        VOC(root=str(root), split="train_aug")
    assert "1,464" in VOC(root=str(root), split="train").note
    assert VOC(root=str(root), split="val").note == ""


def test_sbd_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "benchmark_RELEASE/dataset", tmp_path / "elsewhere")
    assert len(VOC(root=str(root), split="train_aug", sbd_root=str(tmp_path / "elsewhere"))) == 8
    with pytest.raises(DataError, match=r"dataset.sbd_root=.* must contain cls/"):
        VOC(root=str(root), split="train_aug", sbd_root=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file, cut", b"\x89HDF\r\n\x1a\n"])
def test_a_damaged_mat_file_is_named(root: Path, content: bytes) -> None:
    path = next((root / "benchmark_RELEASE/dataset/cls").glob("*.mat"))
    path.write_bytes(content)
    samples = VOC(root=str(root), split="train_aug")
    (index,) = [index for index, (_, label) in enumerate(samples.pairs) if label == path]
    with pytest.raises(DataError, match=f"{path.name} is not one of SBD"):
        samples[index]


def test_a_mat_file_of_something_else_is_named(root: Path) -> None:
    path = next((root / "benchmark_RELEASE/dataset/cls").glob("*.mat"))
    for content in (
        {"other": 1},
        {"GTcls": 1},
        {"GTcls": {"Segmentation": "text"}},
        {"GTcls": {"Segmentation": np.eye(3)}},
    ):
        savemat(path, content)
        samples = VOC(root=str(root), split="train_aug")
        (index,) = [index for index, (_, label) in enumerate(samples.pairs) if label == path]
        with pytest.raises(DataError, match=f"{path.name} is not one of SBD"):
            samples[index]


def test_wrong_roots_and_splits(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset.root is not set: dataset=voc needs a folder"):
        VOC(root=None, split="train")
    with pytest.raises(DataError, match=r"must contain VOCdevkit/VOC2012.*, but it contains voc"):
        VOC(root=str(tmp_path), split="train")
    with pytest.raises(DataError, match="split test is not a split of VOC: train, val, trainval, train_aug"):
        VOC(root=str(root), split="test")
    (root / LISTS / "val.txt").write_text("2012_000004\n../../../etc/passwd\n")
    with pytest.raises(
        DataError, match=r"have no image file, the first: .*VOC2012/JPEGImages/passwd.jpg"
    ):  # inside, whatever a list says
        VOC(root=str(root), split="val")
    (root / LISTS / "val.txt").write_text("2012_000004\n2012_999999\n")
    with pytest.raises(
        DataError, match=r"1 of 2 images of .*split val have no image file, the first: .*2012_999999.jpg"
    ):
        VOC(root=str(root), split="val")
    (root / LISTS / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val.txt is missing"):
        VOC(root=str(root), split="val")


def test_an_id_that_is_no_class_names_file_value_and_pixel(root: Path) -> None:
    name = (root / LISTS / "val.txt").read_text().split()[0]
    ids = np.zeros((120, 160), np.uint8)
    ids[7, 9] = 21
    write_ids(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png", ids, voc_palette(256))
    with pytest.raises(DataError, match=f"{name}.png: id 21 at row 7, column 9"):
        VOC(root=str(root), split="val")[0]


def test_the_real_files(real_root: Root) -> None:
    for split, images in (("train", 437), ("val", 223), ("trainval", 660)):
        samples = open_dataset("voc", root=str(real_root("voc")), split=split)
        assert len(samples) == images
        image, label = samples[images // 2]
        assert image.shape[:2] == label.shape
        assert {int(value) for value in np.unique(label)} <= {*range(21), 255}


def test_the_real_palette_is_ours(real_root: Root) -> None:
    path = next((real_root("voc") / "VOCdevkit/VOC2012/SegmentationClass").iterdir())
    with Image.open(path) as label:
        palette = label.getpalette()
    assert palette is not None
    assert np.reshape(palette, (-1, 3))[:21].tolist() == [list(colour) for colour in voc_palette(21)]
