"""People's own folders: what trains, and in which words what does not is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from deeplabx.dataset.folder import Folder
from deeplabx.dataset.splits import Partition
from deeplabx.errors import ConfigError, DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root

# a list of lists through aliases: a few hundred characters, and 9^9 elements when printed
LAUGHS = (
    "[&a [x, x, x, x, x, x, x, x, x]"
    + "".join(
        f", &{name} [{', '.join(['*' + before] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]"
)
COLOURS = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)


@pytest.fixture
def root(fake_root: Root, tmp_path: Path) -> Path:
    return shutil.copytree(fake_root("folder"), tmp_path / "own")


def medical(root: Path, values: tuple[int, ...] = (0, 127, 255)) -> Path:
    """Grey images with masks of a few grey values, flat in images/ and masks/."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(10):
        mask = rng.choice(values, (12, 16)).astype(np.uint8)
        Image.fromarray(mask).save(root / "masks" / f"scan {number}.png")
        Image.fromarray(255 - mask).save(root / "images" / f"scan {number}.jpg")
    return root


def write_table(root: Path, **content: object) -> None:
    (root / "classes.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_medical_masks_of_0_127_255(tmp_path: Path) -> None:
    root = medical(tmp_path)
    write_table(
        root,
        classes=["background", "organ", "tumour"],
        label_map={0: "background", 127: "organ", 255: "tumour"},
    )
    samples = Folder(root=str(root), split="train", partition=Partition(0.2))
    assert samples.classes == ["background", "organ", "tumour"]
    for index in range(len(samples)):
        image, label = samples[index]
        name = samples.pairs[index][0].stem
        raw = np.array(Image.open(root / "masks" / f"{name}.png"))
        assert (label == np.select([raw == 0, raw == 127], [0, 1], 2)).all()
        assert image.shape == (12, 16, 3)


def test_masks_of_colours(tmp_path: Path) -> None:
    root = medical(tmp_path, values=(0, 1, 2))
    for path in (root / "masks").iterdir():
        Image.fromarray(COLOURS[np.array(Image.open(path))]).save(path)
    write_table(root, classes={"ground": [0, 0, 0], "road": [128, 64, 128]}, ignore=[[0, 0, 142]])
    samples = Folder(root=str(root), split="val", partition=Partition(0.2))
    assert samples.palette == [(0, 0, 0), (128, 64, 128)]
    for index in range(len(samples)):
        label, name = samples.label(index), samples.pairs[index][0].stem
        colours = np.array(Image.open(root / "masks" / f"{name}.png"))
        assert (label == np.select([colours[..., 1] == 64, colours[..., 2] == 142], [1, 255], 0)).all()


@pytest.mark.parametrize("ignore", [[[0, 0, 142]], "#00008e", ["0, 0, 142"]])
def test_a_colour_may_be_written_in_three_ways(tmp_path: Path, ignore: object) -> None:
    root = medical(tmp_path, values=(0, 1, 2))
    for path in (root / "masks").iterdir():
        Image.fromarray(COLOURS[np.array(Image.open(path))]).save(path)
    write_table(
        root, classes=["ground", "road"], label_map={"#000000": "ground", "128,64,128": "road"}, ignore=ignore
    )
    samples = Folder(root=str(root), split="train", partition=Partition(0.2))
    assert {int(value) for value in np.unique(samples[0].label)} == {0, 1, 255}


def test_several_values_may_be_one_class_and_a_value_may_be_ignored(tmp_path: Path) -> None:
    root = medical(tmp_path, values=(0, 10, 20, 30))
    write_table(root, classes=["a", "b"], label_map={0: "a", 10: "b", 20: "b", 30: "ignore"})
    assert {
        int(value)
        for value in np.unique(Folder(root=str(root), split="train", partition=Partition(0.1))[0].label)
    } == {0, 1, 255}


def test_a_seeded_split_is_a_partition_and_a_function_of_its_seed(tmp_path: Path) -> None:
    root = medical(tmp_path)
    write_table(root, classes=["a", "b", "c"], label_map={0: "a", 127: "b", 255: "c"})

    def names(split: str, seed: int) -> set[str]:
        return {
            image.stem
            for image, _ in Folder(root=str(root), split=split, partition=Partition(0.3, seed)).pairs
        }

    assert names("train", 0) | names("val", 0) == {f"scan {number}" for number in range(10)}
    assert not names("train", 0) & names("val", 0)
    assert len(names("val", 0)) == 3
    assert names("val", 0) == names("val", 0) != names("val", 1)


def test_splits_may_be_lists(root: Path) -> None:
    for kind in ("images", "masks"):
        for path in list((root / kind).glob("*/*")):
            path.rename(root / kind / path.name)
        for split in ("train", "val"):
            (root / kind / split).rmdir()
    (root / "mine.txt").write_text("image_00001\nimage_00006.jpg\n\n")
    assert [image.name for image, _ in Folder(root=str(root), split="mine").pairs] == [
        "image_00001.jpg",
        "image_00006.jpg",
    ]
    (root / "mine.txt").write_text("../../secret\n")
    with pytest.raises(DataError, match=r"mine.txt: '../../secret' leads out"):
        Folder(root=str(root), split="mine")
    (root / "mine.txt").write_text("image_99999\n")
    with pytest.raises(DataError, match=r"mine.txt: 'image_99999' matches 0 images below"):
        Folder(root=str(root), split="mine")


def test_masks_may_have_a_suffix_and_sub_folders(root: Path) -> None:
    for kind, ending in (("images", ".jpg"), ("masks", "_mask.png")):
        (root / kind / "train" / "north").mkdir()
        for path in list((root / kind / "train").glob("*.*")):
            path.rename(root / kind / "train" / "north" / f"{path.stem}{ending}")
    assert len(Folder(root=str(root), split="train", mask_suffix="_mask")) == 4


def damage_nothing_there(root: Path) -> None:
    shutil.rmtree(root)


def damage_no_table(root: Path) -> None:
    (root / "classes.yaml").unlink()


def damage_no_masks(root: Path) -> None:
    (root / "masks").rename(root / "labels")


def damage_a_mask_is_missing(root: Path) -> None:
    (root / "masks/train/image_00002.png").unlink()


def damage_another_size(root: Path) -> None:
    Image.new("L", (8, 8)).save(root / "masks/train/image_00000.png")


def damage_an_unknown_id(root: Path) -> None:
    Image.new("L", (160, 120), 9).save(root / "masks/train/image_00000.png")


def damage_colours_where_ids_were_said(root: Path) -> None:
    for path in (root / "masks/train").iterdir():
        Image.open(path).convert("RGB").save(path)
    write_table(root, classes=["a", "b", "c", "d"], ignore=255)


def damage_jpeg_masks(root: Path) -> None:
    path = root / "masks/train/image_00000.png"
    Image.open(path).convert("L").save(path.with_suffix(".jpg"))
    path.unlink()


def damage_no_images(root: Path) -> None:
    for path in (root / "images/train").iterdir():
        path.unlink()


def damage_no_split(root: Path) -> None:
    (root / "images/train").rename(root / "images/other")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            damage_nothing_there,
            r"dataset.root=.*own: there is no such folder\na folder data set is classes.yaml, "
            r"images/<split>/",
        ),
        (
            damage_no_table,
            r"classes.yaml is missing: it says what the values in the masks mean \(they hold 0, 1, 2, "
            r"3, 255\)\nwrite classes: {0: background, 1: class_1, .*, 255: ignore}\nwith names of your own",
        ),
        (damage_no_masks, r"must contain images/ and masks/, but it contains classes.yaml, images, labels"),
        (
            damage_a_mask_is_missing,
            r"1 of 4 images of .* have no label file, the first: .*image_00002.png\n.*dataset.mask_suffix",
        ),
        (damage_another_size, r"image_00000.jpg is 160 x 120 but .*image_00000.png is 8 x 8"),
        (
            damage_an_unknown_id,
            r"image_00000.png: id 9 at row 0, column 0 is neither a class nor void .*\(19200 such pixels: 9\)"
            r"\nknown ids: 0, 1, 2, 3, 255",
        ),
        (
            damage_colours_where_ids_were_said,
            r"classes.yaml gives ids, but the masks hold colours, as image_00000.png\nwrite classes: {backgr",
        ),
        (damage_jpeg_masks, r"image_00000.jpg: a mask must not be a JPEG file: compression changes ids"),
        (damage_no_images, r"own, split train contains no images"),
        (
            damage_no_split,
            r"has neither images/train/ nor train.txt; .*other, val\nset dataset.val_fraction=0.2",
        ),
    ],
)
def test_each_kind_of_wrong_folder_has_its_own_words(
    root: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(root)
    with pytest.raises(DataError, match=words):
        Folder(root=str(root), split="train")[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("classes: [", "is not valid YAML"),
        ("classes: {ground: 0, road: [1, 1, 1]}", "maps ground to 0, but a table of classes has colours"),
        ("classes: {0: 1, 1: 2}", "all keys and values of classes are numbers: which are the ids"),
        ("classes: {a: 1, b: 01}", "1 is the id of two classes"),
        ("classes: {0: a, 00: b}", "duplicate 00 in label_map"),
        ("classes: {0: a, 70000: b}", "70000 is not a raw id from 0 to 65535"),
        (f"classes: {{0: a, {'9' * 900}: b}}", "9{20} is not a raw id from 0 to 65535"),
        ("classes: {0: a, 1: ignore}", "1 classes; there must be 2"),
        ("classes: {0: a, 1: }", "label_map maps to '', which is not in classes|classes must be a list"),
        ("classes: {0: a, 1: b}\nlabel_map: {0: a, 1: b}", "classes gives the ids .* and label_map does too"),
        ("classes: {0: a, 1: b}\nignore: 1", "1 is both class 'b' and in ignore"),
        ("- a", "must have the key classes"),
        ("classes: []", "must have the key classes"),
        ("classes: 5", "classes must be a list of names"),
        ("classes: [a]", "1 classes; there must be 2 to 1000"),
        ("classes: [a, a]", "duplicate class name"),
        ('classes: ["\\e[2J", b]', r"the class name '.x1b\[2J' cannot be printed"),
        (f"classes: [{'x' * 101}, b]", "the class name 'xxx.*' cannot be printed"),
        (f"classes: {{a: [0, 0, 0], b: {LAUGHS}}}", "is neither an id nor a colour"),
        (
            f"classes: [a, b]\nlabel_map: {{0: a, 1: {LAUGHS}}}",
            "label_map maps to .*, which is not in classes",
        ),
        (f"classes: [a, b]\nignore: {LAUGHS}", "is neither an id nor a colour"),
        ("classes: [a, b]\nnames: [a]", "names is not one of classes, ignore, label_map"),
        ("classes: {a: [0, 0, 0], b: [0, 0, 0]}", "two classes have the same colour"),
        ("classes: {a: [0, 0, 300], b: [0, 0, 0]}", r"\[0, 0, 300\] is neither an id nor a colour"),
        ("classes: {a: '#00zz00', b: [0, 0, 0]}", "is neither an id nor a colour"),
        ("classes: [a, b]\nignore: 1", "1 is both class 'b' and in ignore"),
        ("classes: [a, b]\nignore: text", "'text' is neither an id nor a colour"),
        (
            "classes: [a, b]\nlabel_map: {0: a, 1: c}",
            "maps to 'c', which is not in classes\nclasses: a, b, or ignore",
        ),
        ("classes: [a, b]\nlabel_map: {0: a, 1: a}", "label_map maps nothing to b"),
        ("classes: [a, b]\nlabel_map: [0, 1]", "label_map must be a table"),
        ("classes: [a, b]\nlabel_map: {0: a, 70000: b}", "70000 is not a raw id from 0 to 65535"),
        ("classes: !!python/object/apply:os.mkdir [evil]", "1 classes"),
        ("classes: [a, b]\nlabel_map: {0: a, 1: b, 0: b}", "duplicate key 0"),
        ("classes: {a: [0, 0, 0], b: [1, 1, 1], b: [2, 2, 2]}", "duplicate key b"),
        ("classes: [a, b]\nlabel_map: {'0,0,0': a, '#000000': b}", "duplicate #000000 in label_map"),
        ("classes: [a, b]\nlabel_map: {0: a, '#000000': b}", "label_map has both ids and colours"),
        (
            "classes: [a, b]\nlabel_map: {0: a, 1: b}\nignore: [[0, 0, 0]]",
            "ignore has colours, but the masks have ids",
        ),
        (
            "classes: [a, b, c, d]\nignore: [[0, 0, 0]]",
            r"ignore has colours, but the masks have ids\nwrite ids as ignore: \[255\]",
        ),
        ("classes: [a, b]\nlabel_map:\n  #804080: a", "label_map must be a table .*\ncolours need quotes"),
        ("classes: [a, b]\nlabel_map: {[0, 0, 0]: a}", "a key must be one value; write colours as strings"),
        ("classes:\n- a: [0, 0, 0]\n- b: [1, 1, 1]", "classes must be a list of names"),
        ("classes: " + "[" * 3000, "is not valid YAML"),
        (
            "classes: [a, b]\nlabel_map: {'0,0,0': a, '0,0,1': b}\nignore: [0, 0, 2]",
            "ignore has ids, but the masks have colours",
        ),
    ],
)
def test_each_kind_of_wrong_table_has_its_own_words(root: Path, content: str, words: str) -> None:
    (root / "classes.yaml").write_text(content)
    with pytest.raises(DataError, match=words):
        Folder(root=str(root), split="train")
    assert not (Path.cwd() / "evil").exists()


def test_names_and_ids_are_what_was_written(root: Path) -> None:
    (root / "classes.yaml").write_text(
        "classes: [no, yes, 2024-99-99, 010]\nlabel_map: {000: no, 01: yes, 2: 2024-99-99, 03: "
        "010}\nignore: 255"
    )
    samples = Folder(root=str(root), split="train")
    assert samples.classes == ["no", "yes", "2024-99-99", "010"]
    assert samples.label_map.known == {0: 0, 1: 1, 2: 2, 3: 3, 255: 255}


def save_masks(root: Path, masks: list[Image.Image]) -> None:
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number, mask in enumerate(masks):
        mask.save(root / "masks" / f"{number}.png")
        mask.convert("RGB").save(root / "images" / f"{number}.png")


def test_a_palette_in_another_order_than_the_table_is_not_guessed_at(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (9, 9))
    save_masks(tmp_path, [Image.fromarray(COLOURS[ids]).quantize(3)] * 3)
    write_table(tmp_path, classes={"ground": [0, 0, 0], "road": [128, 64, 128], "car": [0, 0, 142]})
    with pytest.raises(
        DataError,
        match=r"its ids \[0, 1, 2\] and its colours .* are different classes in classes.yaml\nset "
        r"label_map: {0: ",
    ):
        Folder(root=str(tmp_path), split="train", partition=Partition(0.4))
    write_table(
        tmp_path,
        classes=["ground", "road", "car"],
        label_map={"0,0,0": "ground", "128,64,128": "road", "0,0,142": "car"},
    )
    assert (Folder(root=str(tmp_path), split="train", partition=Partition(0.4))[0].label == ids).all()


def test_a_palette_in_the_tables_order_and_one_of_other_colours_are_read_as_ids(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (9, 9)).astype(np.uint8)
    for name, palette in (("same", COLOURS), ("other", COLOURS + 1)):
        mask = Image.fromarray(ids)
        mask.putpalette(palette.flatten().tolist())
        save_masks(tmp_path / name, [mask] * 3)
        write_table(
            tmp_path / name,
            classes={"ground": [0, 0, 0], "road": [128, 64, 128], "car": [0, 0, 142]},
            ignore=[[255, 255, 255]],
        )
        samples = Folder(root=str(tmp_path / name), split="train", partition=Partition(0.4))
        assert not samples.label_map.by_colour
        assert (samples[0].label == ids).all()


def test_grey_masks_of_the_tables_greys_are_read_as_colours(tmp_path: Path) -> None:
    root = medical(tmp_path)
    write_table(root, classes={"background": [0, 0, 0], "organ": [127, 127, 127], "tumour": [255, 255, 255]})
    samples = Folder(root=str(root), split="train", partition=Partition(0.2))
    assert {int(value) for value in np.unique(samples[0].label)} == {0, 1, 2}


def test_a_seeded_split_never_mixes_splits_that_are_there(root: Path) -> None:
    shutil.rmtree(root / "images/val")
    for split in ("train", "val"):
        with pytest.raises(
            DataError, match=r"already has splits \(train\); dataset.val_fraction=0.4 would mix them"
        ):
            Folder(root=str(root), split=split, partition=Partition(0.4))


def test_a_split_needs_a_image_on_each_side(tmp_path: Path) -> None:
    save_masks(tmp_path, [Image.new("L", (4, 4))])
    write_table(tmp_path, classes=["a", "b"])
    with pytest.raises(DataError, match=r"holds 1 images, too few for dataset.val_fraction=0.2"):
        Folder(root=str(tmp_path), split="train", partition=Partition(0.2))


def test_names_in_lists_are_names_not_patterns(root: Path) -> None:
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        next((root / kind / "train").iterdir()).rename(root / kind / f"a[1].{ending}")
    (root / "images" / "a[1].json").write_text("{}")
    (root / "mine.txt").write_text("a[1]\r\n", encoding="utf-8-sig")
    assert [image.name for image, _ in Folder(root=str(root), split="mine").pairs] == ["a[1].jpg"]
    for line in ("a*", "**", ".", "x" * 5000):
        (root / "mine.txt").write_text(line)
        with pytest.raises(DataError, match="matches 0 images"):
            Folder(root=str(root), split="mine")


def test_hidden_files_are_not_data_and_linked_folders_are(root: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "train/.ipynb_checkpoints").mkdir()
        (root / kind / "train/.ipynb_checkpoints/b.png").write_bytes(b"")
        (root / kind / "train/._a.jpg").write_bytes(b"")
        shutil.move(root / kind / "val", tmp_path / f"{kind} elsewhere")
        (root / kind / "train/north").symlink_to(tmp_path / f"{kind} elsewhere")
        (root / kind / "train/circle").symlink_to(root / kind)
    assert len(Folder(root=str(root), split="train")) == 8


def test_upper_case_suffixes_are_read(root: Path) -> None:
    path = next((root / "masks/train").iterdir())
    path.rename(path.with_suffix(".PNG"))
    assert len(Folder(root=str(root), split="train")) == 4


def test_two_images_or_two_masks_of_one_name_are_refused(root: Path) -> None:
    shutil.copy(root / "masks/train/image_00000.png", root / "masks/train/image_00000.tif")
    with pytest.raises(DataError, match="has 2 masks: image_00000.png, image_00000.tif"):
        Folder(root=str(root), split="train")
    shutil.copy(root / "images/train/image_00000.jpg", root / "images/train/image_00000.png")
    with pytest.raises(DataError, match="duplicate image name in the split: .*image_00000"):
        Folder(root=str(root), split="train")


@pytest.mark.parametrize("split", ["/etc", "../images", "a\0b"])
def test_a_split_stays_under_the_root(root: Path, split: str) -> None:
    with pytest.raises(ConfigError, match="leads out of dataset.root"):
        open_dataset("folder", root=str(root), split=split)


def test_what_the_system_refuses_is_a_data_error(root: Path) -> None:
    with pytest.raises(DataError, match="File name too long"):
        open_dataset("folder", root=str(root), split="x" * 5000)


# --- hints that work at the first try -----------------------------------------------------------------------


def hint_of(root: Path, **settings: str) -> str:
    with pytest.raises(DataError) as raised:
        Folder(root=str(root), split="train", **settings)  # type: ignore[arg-type]
    return raised.value.hint


@pytest.mark.parametrize("ending", ["_mask", "-labels", " (mask)", "_mäsk"])
def test_the_ending_of_mask_names_is_found(root: Path, ending: str) -> None:
    for path in (root / "masks/train").iterdir():
        path.rename(path.with_stem(path.stem + ending))
    typed = ending if ending.isascii() and " " not in ending else f"'{ending}'\""
    assert hint_of(root).endswith(f"dataset.mask_suffix={typed}")
    assert len(Folder(root=str(root), split="train", mask_suffix=ending)) == 4


def test_masks_of_other_names_and_masks_among_images_are_said(root: Path) -> None:
    masks = root / "masks/train"
    for number, path in enumerate(sorted(masks.iterdir())):
        path.rename(masks / f"task-{number}-tag-Car-0.png")
    assert f"{masks} has 4 others, such as task-0-tag-Car-0" in hint_of(root)
    for number in range(4):
        shutil.copy(masks / "task-0-tag-Car-0.png", masks / f"image_0000{number}_mask.png")
    for path in masks.glob("*_mask.png"):
        shutil.copy(path, root / "images/train")
    assert "is named like a mask: move masks out of images/" in hint_of(root, mask_suffix="_mask")


def test_a_folder_without_images_says_what_it_holds(root: Path) -> None:
    for path in (root / "images/train").iterdir():
        path.rename(path.with_suffix(".npy"))
    with pytest.raises(DataError, match=r"split train contains no images \(only 4 \.npy\)\nlooked for \.jpg"):
        Folder(root=str(root), split="train")


@pytest.mark.parametrize("name", ["folder", "voc", "cityscapes", "camvid"])
def test_a_root_a_few_levels_off_is_found(fake_root: Root, tmp_path: Path, name: str) -> None:
    right = shutil.copytree(fake_root(name), tmp_path / "above" / "own")
    inside = (
        next(path for path in right.iterdir() if path.is_dir())
        if name != "voc"
        else (right / "VOCdevkit/VOC2012/JPEGImages")
    )
    for wrong in (tmp_path, tmp_path / "above", inside):
        with pytest.raises(DataError) as raised:
            open_dataset(name, split="train", root=str(wrong))
        found = raised.value.hint.removeprefix("set dataset.root=")
        assert len(open_dataset(name, split="train", root=found))


def test_masks_beside_their_images(fake_root: Root, tmp_path: Path) -> None:
    root = shutil.copytree(fake_root("folder/beside"), tmp_path / "own")

    def opened(**settings: Any) -> Any:
        return open_dataset(
            "folder", root=str(root), format="beside", **{"split": "train", **settings}
        ).samples

    before = opened()
    expected = [before[index].label for index in range(4)]
    assert [(image.suffix, mask.suffix) for image, mask in before.pairs] == [(".jpg", ".png")] * 4
    (root / "images/train/more.png").write_bytes((root / "images/train/image_00000.png").read_bytes())
    assert " without an image: 1, the first: " in "".join(opened().left_out)
    (root / "images/train/more.png").unlink()

    # images that are .png too, and no folder images/
    for path in sorted((root / "images").glob("*/*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    for path in sorted((root / "images").glob("*/*.jpg")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    for split in ("train", "val"):
        (root / "images" / split).rename(root / split)
    (root / "images").rmdir()
    found = opened(mask_suffix="_mask")
    assert all((found[index].label == expected[index]).all() for index in range(4))
    with pytest.raises(DataError, match=r"contains no images: without dataset.mask_suffix.*\n.*=_mask"):
        opened()
    (root / "train/image_00002_mask.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images .* have no label file, .*image_00002_mask.png"):
        opened(mask_suffix="_mask")
    shutil.copy(root / "train/image_00001_mask.png", root / "train/image_00002_mask.png")
    Image.open(root / "train/image_00002_mask.png").save(root / "train/image_00002_mask.tif")
    with pytest.raises(
        DataError, match="image_00002.png has 2 masks: image_00002_mask.png, image_00002_mask.tif"
    ):
        opened(mask_suffix="_mask")


def test_folds_of_masks_and_splits_on_disk_do_not_mix(root: Path) -> None:
    with pytest.raises(DataError, match=r"already has splits \(train, val\); dataset.folds=2 would mix them"):
        Folder(root=str(root), split="train", partition=Partition(folds=2, fold=0))
