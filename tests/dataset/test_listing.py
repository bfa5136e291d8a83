"""The one lister: what is listed, what is left out in which words, and what is an error."""

import errno
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.camvid import CamVid
from deeplabx.dataset.cityscapes import Cityscapes
from deeplabx.dataset.folder import Folder
from deeplabx.dataset.image_file import FORMATS
from deeplabx.dataset.listing import IMAGE_SUFFIXES, Names, found_in, images_in, input_images, lines_of
from deeplabx.dataset.voc import VOC
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zürich é") for form in ("NFC", "NFD"))


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in images_in(folder).paths]


def images_of_a_split(root: Path) -> list[str]:
    return [image.name for image, _ in Folder(root=str(root), split="train").pairs]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder data set of two training images and one of val."""
    for kind in ("images", "masks"):
        for inside in ("train/a", "train/b", "val/c"):
            path = tmp_path / "own" / kind / f"{inside}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(4, dtype=np.uint8)).save(path)
    (tmp_path / "own/classes.yaml").write_text("classes: [background, object]")
    return tmp_path / "own"


# --- which files --------------------------------------------------------------------------------------------


def test_every_suffix_is_one_that_is_read() -> None:
    Image.init()
    formats = {
        "DIB" if suffix == ".dib" else Image.registered_extensions()[suffix] for suffix in IMAGE_SUFFIXES
    }
    assert formats <= {*FORMATS, "DIB", "GIF"}


def test_hidden_files_and_folders_of_systems_are_no_images(tmp_path: Path) -> None:
    touched(tmp_path, "a.jpg", "._a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/._a.jpg", "B.TIFF")
    touched(tmp_path, "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "lost+found/x.png", ".DS_Store", "deep/er/c.JFIF")
    assert names(tmp_path) == ["B.TIFF", "a.jpg", "deep/er/c.JFIF"]
    left_out = images_in(tmp_path).left_out
    assert f"left out of {tmp_path}: 1 hidden .jpg" in left_out
    assert sum("a system folder" in words for words in left_out) == 3


def test_suffixes_that_are_not_taken_are_counted_and_named_once(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "b.jfif2", "c/d.JFIF2", "e.txt", "Thumbs.db", "Makefile")
    counted = "1 .db, 2 .jfif2, 1 .txt, 1 without a suffix"
    assert images_in(tmp_path).left_out == [f"left out of {tmp_path}: {counted}"]
    assert images_in(tmp_path / "c", suffixes=(".jfif2",)).left_out == []


def test_names_that_are_not_utf_8_are_listed(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    touched(tmp_path / odd, f"{odd}.jpg", f"{odd}.{odd}")
    found = images_in(tmp_path)
    assert found.paths == [tmp_path / odd / f"{odd}.jpg"]
    assert found.left_out == [f"left out of {tmp_path}: 1 .caf\\udce9"]
    (tmp_path / "train.txt").write_bytes(b"caf\xe9\r\n")
    assert lines_of(tmp_path / "train.txt") == [odd]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_a_list_may_be_of_another_systems_editor(tmp_path: Path, encoding: str) -> None:
    text = "a\r\nzwei wörter\r\n\r\n"
    content = b"\xff\xfe" + text.encode("utf-16-le") if "bom" in encoding else text.encode(encoding)
    (tmp_path / "train.txt").write_bytes(content)
    assert lines_of(tmp_path / "train.txt") == ["a", "zwei wörter"]


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\x89PNG\r\n\0\0")
    with pytest.raises(DataError, match="is not a text file of names"):
        lines_of(tmp_path / "train.txt")


# --- links --------------------------------------------------------------------------------------------------


def test_a_real_folder_is_listed_once_under_its_own_name(tmp_path: Path) -> None:
    touched(tmp_path / "in", "z/real.jpg", "b.jpg")
    (tmp_path / "in/a_link").symlink_to(tmp_path / "in/z")
    (tmp_path / "in/b_link").symlink_to("z")
    found = images_in(tmp_path / "in")
    assert names(tmp_path / "in") == ["b.jpg", "z/real.jpg"]
    assert found.left_out == [
        f"skipped {tmp_path / 'in' / link}: it is the folder {tmp_path / 'in/z'}"
        for link in ("a_link", "b_link")
    ]


def test_a_folder_below_a_linked_one_is_not_listed_again(tmp_path: Path) -> None:
    touched(tmp_path, "elsewhere/a.jpg", "elsewhere/below/b.jpg", "in/c.jpg")
    (tmp_path / "in/first").symlink_to(tmp_path / "elsewhere/below")
    (tmp_path / "in/second").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "in") == ["c.jpg", "first/b.jpg", "second/a.jpg"]


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "self"])
def test_a_link_to_a_folder_that_contains_it_ends(tmp_path: Path, target: str) -> None:
    touched(tmp_path / "other", "x.jpg")
    touched(tmp_path / "in/below", "a.jpg")
    (tmp_path / "in/below/self").symlink_to(target if target != "self" else tmp_path / "in/below")
    found = images_in(tmp_path / "in")
    assert [path.name for path in found.paths] == ["a.jpg"]
    assert found.left_out == [f"skipped {tmp_path}/in/below/self: it is a link to a folder that contains it"]


def test_two_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    touched(tmp_path, "in/one/a.jpg", "in/two/b.jpg")
    (tmp_path / "in/one/to").symlink_to(tmp_path / "in/two")
    (tmp_path / "in/two/to").symlink_to(tmp_path / "in/one")
    assert names(tmp_path / "in") == ["one/a.jpg", "two/b.jpg"]


def test_many_skipped_folders_are_a_few_lines(tmp_path: Path) -> None:
    for number in range(9):
        touched(tmp_path, f"{number}/@eaDir/a.jpg", f"{number}/b.jpg")
    assert images_in(tmp_path).left_out[3:] == ["skipped 6 more such folders"]


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    touched(tmp_path, "elsewhere/a.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    assert names(tmp_path / "in") == ["b.jpg"]


def to_nothing(path: Path) -> None:
    path.symlink_to("gone.jpg")


def to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (to_nothing, "x.jpg", r"x.jpg is a link to gone.jpg: it does not exist"),
        (
            to_nothing,
            "site_b",
            r"site_b is a link to gone.jpg: it does not exist",
        ),  # a disk that is not there
        (to_itself, "x.png", r"x.png is a link to x.png: Too many levels of symbolic links"),
        (os.mkfifo, "x.jpg", r"x.jpg is a FIFO, not a file"),
    ],
)
def test_what_is_no_file_is_named(root: Path, make: Callable[[Path], None], name: str, words: str) -> None:
    make(root / "images/train" / name)
    with pytest.raises(DataError, match=words):
        Folder(root=str(root), split="train")
    found = input_images(root / "images/train")
    assert len(found.paths) == 2
    assert len(found.unreadable) == 1


def test_a_dangling_link_of_another_suffix_is_only_counted(root: Path) -> None:
    (root / "images/train/notes.txt").symlink_to("gone.txt")
    assert len(Folder(root=str(root), split="train")) == 2


# --- folders that cannot be listed --------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Listing a folder of this name fails."""

    def breaks(name: str, number: int) -> None:
        scandir = os.scandir

        def failing(path: Any) -> Iterator[os.DirEntry[str]]:
            if Path(path).name == name:
                raise OSError(number, os.strerror(number), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", failing)

    return breaks


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("inside", ["images/train", "masks/train", "images/train/site_b"])
def test_a_folder_that_cannot_be_listed_is_no_smaller_data_set(
    root: Path, broken: Callable[[str, int], None], number: int, inside: str
) -> None:
    touched(root, "images/train/site_b/d.png")
    broken(Path(inside).name, number)
    with pytest.raises(
        DataError, match=rf"{inside.split('/')[-1]} cannot be listed: {os.strerror(number)}\n"
    ):
        Folder(root=str(root), split="train")


@pytest.mark.parametrize("name", ["voc", "cityscapes", "camvid"])
def test_every_data_set_names_the_folder(
    fake_root: Root, broken: Callable[[str, int], None], name: str
) -> None:
    broken({"voc": "JPEGImages", "cityscapes": "train", "camvid": "trainannot"}[name], errno.EIO)
    with pytest.raises(DataError, match="cannot be listed: Input/output error"):
        open_dataset(name, root=str(fake_root(name)), split="train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_without_permission_is_named(root: Path) -> None:
    touched(root, "images/train/site_b/d.png")
    (root / "images/train/site_b").chmod(0)
    try:
        with pytest.raises(DataError, match="site_b cannot be listed: Permission denied"):
            Folder(root=str(root), split="train")
    finally:
        (root / "images/train/site_b").chmod(0o755)


# --- Unicode ------------------------------------------------------------------------------------------------


def renamed(root: Path, images: str, masks: str) -> None:
    for kind, name in (("images", images), ("masks", masks)):
        (root / kind / "train" / name).mkdir()
        (root / kind / "train/a.png").rename(root / kind / "train" / name / f"{name}.png")


@pytest.mark.parametrize(("images", "masks"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_an_image_and_a_mask_from_different_systems_are_a_pair(root: Path, images: str, masks: str) -> None:
    renamed(root, images, masks)
    (pair, _) = Folder(root=str(root), split="train").pairs
    assert [path.stem for path in pair] == [images, masks]


@pytest.mark.parametrize("line", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_a_list_and_a_folder_from_different_systems_agree(root: Path, line: str, name: str) -> None:
    renamed(root, name, name)
    (root / "mine.txt").write_text(f"train/{line}/{line}\n")
    (pair,) = Folder(root=str(root), split="mine").pairs
    assert pair[0].stem == name


@pytest.mark.parametrize(("split", "place"), [("train", "JPEGImages"), ("train", "SegmentationClass")])
def test_voc_lists_from_another_system(fake_root: Root, tmp_path: Path, split: str, place: str) -> None:
    voc = shutil.copytree(fake_root("voc"), tmp_path / "voc") / "VOCdevkit/VOC2012"
    listing = voc / f"ImageSets/Segmentation/{split}.txt"
    old = listing.read_text().split()[0]
    for folder, end in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        new = DECOMPOSED if folder == place else COMPOSED
        (voc / folder / f"{old}.{end}").rename(voc / folder / f"{new}.{end}".replace(" ", ""))
    listing.write_text(f"{COMPOSED}\n".replace(" ", ""))
    assert len(VOC(root=str(tmp_path / "voc"), split=split)) == 1


def test_camvid_and_cityscapes_frames_from_another_system(fake_root: Root, tmp_path: Path) -> None:
    camvid = shutil.copytree(fake_root("camvid"), tmp_path / "camvid")
    frame = min((camvid / "train").iterdir())
    (camvid / "trainannot" / frame.name).rename(camvid / "trainannot" / f"{COMPOSED}.png")
    frame.rename(frame.with_name(f"{DECOMPOSED}.png"))
    assert len(CamVid(root=str(camvid), split="train")) == 4
    streets = shutil.copytree(fake_root("cityscapes"), tmp_path / "cityscapes")
    city = min((streets / "gtFine/train").iterdir())
    (streets / "leftImg8bit/train" / city.name).rename(streets / "leftImg8bit/train" / COMPOSED)
    city.rename(city.with_name(DECOMPOSED))
    assert len(Cityscapes(root=str(streets), split="train")) == 4


@pytest.mark.parametrize("name", ["{}.png", "{}/x.png", "{}.txt"])
def test_two_names_that_look_the_same_are_refused(root: Path, name: str) -> None:
    for form in (COMPOSED, DECOMPOSED):
        touched(root / "images/train", name.format(form))
    with pytest.raises(DataError, match=r"train holds two names that look the same: 'Zu.*\nthey differ"):
        Folder(root=str(root), split="train")


def test_two_images_of_one_name_in_two_suffixes_and_two_normalisations(root: Path) -> None:
    touched(root / "images/train", f"{COMPOSED}.png", f"{DECOMPOSED}.jpg")
    with pytest.raises(DataError, match="duplicate image name in the split"):
        Folder(root=str(root), split="train")


def test_names_finds_what_is_there_and_keeps_what_is_not(tmp_path: Path) -> None:
    touched(tmp_path, f"{DECOMPOSED}/{DECOMPOSED}.png", f"{DECOMPOSED}/.{COMPOSED}.png")
    files = Names()
    assert files.path(tmp_path, f"{COMPOSED}/{COMPOSED}.png").is_file()
    assert files.path(tmp_path, "no/such") == tmp_path / "no/such"
    assert files.with_stem(tmp_path / DECOMPOSED, COMPOSED) == [tmp_path / DECOMPOSED / f"{DECOMPOSED}.png"]


# --- masks and splits ---------------------------------------------------------------------------------------


def one_folder_linked_twice(root: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    for split in ("train", "val"):
        for path in list((root / "masks" / split).iterdir()):
            path.rename(elsewhere / path.name)
        (root / "masks" / split).rmdir()
        (root / "masks" / split).symlink_to(elsewhere)


def one_split_linked_to_the_other(root: Path, elsewhere: Path) -> None:
    shutil.move(root / "masks/val/c.png", root / "masks/train/c.png")
    (root / "masks/val").rmdir()
    (root / "masks/val").symlink_to("train")


def masks_linked_as_a_whole(root: Path, elsewhere: Path) -> None:
    one_folder_linked_twice(root, elsewhere)
    (root / "masks").rename(elsewhere.with_name("masks elsewhere"))
    (root / "masks").symlink_to(elsewhere.with_name("masks elsewhere"))


def each_mask_a_link(root: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    for path in (root / "masks").rglob("*.png"):
        shutil.move(path, elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)


@pytest.mark.parametrize(
    "link",
    [one_folder_linked_twice, one_split_linked_to_the_other, masks_linked_as_a_whole, each_mask_a_link],
)
def test_masks_of_all_splits_may_lie_in_one_folder(root: Path, link: Callable[..., None]) -> None:
    link(root, root.parent / "all masks")
    for split, count in (("train", 2), ("val", 1)):
        samples = Folder(root=str(root), split=split)
        assert len(samples) == count
        assert all(samples.label(index).shape == (4, 4) for index in range(count))
        assert list(samples.left_out) == []  # a mask of the other split is not one without an image


def test_masks_without_an_image_are_counted(root: Path) -> None:
    for name in ("x", "y"):
        shutil.copy(root / "masks/train/a.png", root / f"masks/train/{name}.png")
    touched(root / "masks/train", "a.json")
    assert list(open_dataset("folder", root=str(root), split="train").left_out) == [
        f"left out of {root}/masks/train: 1 .json",
        f"masks below {root}/masks/train without an image: 2, the first: {root}/masks/train/x.png",
    ]
    assert list(open_dataset("folder", root=str(root), split="val").left_out) == []


@pytest.mark.parametrize("split", ["train", "val", "mine"])
def test_a_list_beside_a_folder_of_its_name_is_refused(root: Path, split: str) -> None:
    touched(root, f"images/{split}/q.png")
    (root / f"{split}.txt").write_text("train/a\n")
    with pytest.raises(DataError, match=rf"both images/{split}/ and {split}.txt: which one is the split"):
        Folder(root=str(root), split=split)


def test_lines_that_match_nothing_are_counted(root: Path) -> None:
    (root / "mine.txt").write_text("train/a\nx\ny\n")
    with pytest.raises(DataError, match=r"'x' matches 0 images below .*images, not one \(2 of 3 lines\)"):
        Folder(root=str(root), split="mine")


@pytest.mark.parametrize("target", ["train", "gone"])
def test_a_split_that_is_a_link_to_nothing(root: Path, target: str) -> None:
    shutil.rmtree(root / "images/train")
    (root / "images/train").symlink_to(target)
    with pytest.raises(DataError, match=rf"images/train is a link to {target}, where there is no folder"):
        Folder(root=str(root), split="train")


@pytest.mark.parametrize("line", ["images/train/a.png", "train\\a.png"])
def test_lines_of_other_programs_are_answered(root: Path, line: str) -> None:
    (root / "mine.txt").write_text(line)
    with pytest.raises(DataError, match=r"matches 0 images .*\na line is an image's path below images/"):
        Folder(root=str(root), split="mine")


def test_frames_of_other_endings_are_counted(fake_root: Root, tmp_path: Path) -> None:
    streets = shutil.copytree(fake_root("cityscapes"), tmp_path / "cityscapes")
    city = min((streets / "leftImg8bit/train").iterdir())
    touched(city, "a_leftImg8bit.jpg", "b_leftimg8bit.png", "notes.txt")
    assert list(Cityscapes(root=str(streets), split="train").left_out) == [
        f"left out of {streets}/leftImg8bit/train: 1 .txt",
        f"left out of {streets}/leftImg8bit/train: 2 images not named *_leftImg8bit.png, the first: "
        "a_leftImg8bit.jpg",
    ]


def test_frames_of_one_name_in_two_folders_have_their_own_labels(fake_root: Root, tmp_path: Path) -> None:
    camvid = shutil.copytree(fake_root("camvid"), tmp_path / "camvid")
    for kind in ("train", "trainannot"):
        (camvid / kind / "north").mkdir()
        for number, path in enumerate(sorted((camvid / kind).glob("*.png"))[:2]):
            path.rename(path.with_name("x.png") if number else path.parent / "north/x.png")
    pairs = CamVid(root=str(camvid), split="train").pairs
    assert len({label for _, label in pairs}) == len(pairs) == 4
    assert all(image.parent.name == label.parent.name.removesuffix("annot") for image, label in pairs)


def test_a_folder_that_is_looked_through_for_images_of_predict(tmp_path: Path) -> None:
    touched(tmp_path, "in/a.xyz", "in/b.xyz", "in/c.gif2")
    with pytest.raises(
        DataError, match=r"input=.*in holds no images \(only 1 .gif2, 2 .xyz\)\nlooked for .jpg"
    ):
        input_images(tmp_path / "in")
    touched(tmp_path, "in/a.jpg", "in/out/earlier.png")
    found = input_images(tmp_path / "in", besides=tmp_path / "in/out")
    assert [path.name for path in found.paths] == ["a.jpg"]
    assert f"skipped {tmp_path}/in/out: the output folder" in found.left_out
    assert len(found_in(tmp_path / "in").paths) == 2
    assert (
        len(input_images(tmp_path / "in", besides=tmp_path).paths) == 2
    )  # the folder lies in that of the output
