"""Repaired copies of data that is stored in odd ways: their labels are those of the source."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.planted_faults import SPLITS, settings
from deeplabx.config import schema
from deeplabx.dataset.check.finding import Level
from deeplabx.dataset.check.repair import repair
from deeplabx.errors import DataError
from deeplabx.run.build import dataset_of
from deeplabx.run.checked_data import CheckedData, check_data

VOID = 255
HEIGHT, WIDTH = 40, 60


def image_of(number: int, *, channels: int = 3) -> np.ndarray:
    """Patches of random colours, which no two images share."""
    rng = np.random.default_rng(number)
    small = rng.integers(1, 255, (HEIGHT // 4, WIDTH // 4, channels)).astype(np.uint8)
    return small.repeat(4, axis=0).repeat(4, axis=1)


def ids_of(number: int, *, classes: int = 3) -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index in range(1, classes):
        left = 4 + (index * 17 + number * 5) % 44
        ids[6 * index : 6 * index + 16, left : left + 12] = index
    return ids


class Folder:
    """A folder data set of six images, with a duplicate, so that there is something to repair."""

    def __init__(self, root: Path, **classes_yaml: object) -> None:
        self.root = root
        self.truth: dict[tuple[str, bytes], np.ndarray] = {}
        self.write("classes.yaml", classes_yaml or {"classes": ["ground", "road", "tree"], "ignore": [VOID]})
        for number in range(6):
            self.add(f"{'train' if number < 4 else 'val'}/p{number}a", image_of(number), ids_of(number))
        image = self.root / "images/train/p0a.png"
        (image.parent / "p0again.png").write_bytes(image.read_bytes())
        (self.root / "masks/train/p0again.png").write_bytes((self.root / "masks/train/p0a.png").read_bytes())

    def write(self, name: str, content: dict[str, object]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def add(
        self, name: str, image: np.ndarray, mask: np.ndarray | Image.Image, *, suffix: str = ".png",
        mask_suffix: str = ".png", tags: Image.Exif | None = None,
    ) -> None:  # fmt: skip
        for kind, content, end in (("images", image, suffix), ("masks", mask, mask_suffix)):
            path = self.root / kind / f"{name}{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = content if isinstance(content, Image.Image) else Image.fromarray(content)
            if tags is not None and kind == "images":
                shown.save(path, exif=tags)
            else:
                shown.save(path)


def checked(dataset: schema.DatasetSettings) -> CheckedData:
    return check_data(dataset, splits=SPLITS, workers=0)


def labels_of(dataset: schema.DatasetSettings) -> dict[bytes, list[str]]:
    """Per image, as the network sees it: the names of the classes of each pixel."""
    found = {}
    for split in SPLITS:
        samples = dataset_of(dataset, split=split)
        names = np.array([*samples.classes, *["void"] * (samples.ignore_index + 1 - len(samples.classes))])
        for index in range(len(samples)):
            image, label = samples[index]
            found[image.tobytes()] = names[label].tolist()
    return found


def repaired(dataset: schema.DatasetSettings, out: Path) -> schema.DatasetSettings:
    found = checked(dataset)
    assert found.stated is not None
    repair(found.findings, found.facts, found.files, found.stated, out)
    return settings(out)


def with_settings(root: Path, **changes: object) -> schema.DatasetSettings:
    found = settings(root)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def compare(dataset: schema.DatasetSettings, out: Path) -> None:
    """The copy has the images and labels of the source; only the duplicate is gone."""
    before = labels_of(dataset)
    copy = repaired(dataset, out)
    assert not checked(copy).of_level(Level.ERROR)
    assert labels_of(copy) == before


# --- masks stored in odd ways -------------------------------------------------------------------------------


def palette_mask(ids: np.ndarray) -> Image.Image:
    mask = Image.fromarray(ids)
    mask.putpalette([channel for index in range(256) for channel in (index, 255 - index, 7)])
    return mask


@pytest.mark.parametrize("alpha", ["void", "keep"])
def test_transparent_pixels_stay_what_they_are(tmp_path: Path, alpha: str) -> None:
    data = Folder(tmp_path / "own", classes=["ground", "road", "tree"])
    data.add("train/seen", image_of(7), ids_of(7))
    palette_mask(ids_of(7)).save(data.root / "masks/train/seen.png", transparency=2)
    compare(with_settings(data.root, mask_alpha=alpha), tmp_path / "copy")


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_mask_that_is_written_again_fits_its_turned_image(tmp_path: Path, orientation: int) -> None:
    """An image whose EXIF turns it, and its mask with transparent pixels, drawn on what viewers show."""
    data = Folder(tmp_path / "own")
    tags = Image.Exif()
    tags[0x0112] = orientation
    ids = ids_of(7)
    mask = palette_mask(np.ascontiguousarray(ids.T if orientation > 4 else ids))
    data.add("train/turned", image_of(7), mask, suffix=".jpg", tags=tags)
    own = tags if orientation < 5 else Image.Exif()  # else the sizes say that only the image is turned
    mask.save(data.root / "masks/train/turned.png", transparency=2, exif=own)
    compare(with_settings(data.root, mask_alpha="void"), tmp_path / "copy")


def test_masks_of_one_bit_keep_their_classes_where_255_becomes_void(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own", classes=["ground", "object"])
    for path in (data.root / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            values = np.array(mask) > 0
        Image.fromarray(values).save(path)
    image = image_of(8)
    image[:, :20] = 0  # an area without data becomes void, for which 255 is free
    data.add("train/edge", image, Image.fromarray(ids_of(8) > 0))
    before = labels_of(settings(data.root))
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    after = labels_of(copy)
    assert after.keys() == before.keys()
    changed = {key for key in before if after[key] != before[key]}
    assert changed <= {image.tobytes()}


def test_white_of_one_bit_is_id_1_where_255_is_void(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own", classes=["ground", "object"], ignore=[VOID])
    for path in (data.root / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            values = np.array(mask) > 0
        Image.fromarray(values).save(path)
    found = checked(settings(data.root))
    assert [(one.kind, len(one.files)) for one in found.of_level(Level.ERROR)] == [("one_bit_mask", 7)]
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    names = np.array(["ground", "object"])
    assert labels_of(copy)[image_of(4).tobytes()] == names[np.minimum(ids_of(4), 1)].tolist()


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_more_classes_than_fit_8_bits(tmp_path: Path, suffix: str) -> None:
    names = [f"class {index}" for index in range(300)]
    data = Folder(tmp_path / "own", classes=names, ignore=[65535])
    ids = ids_of(7).astype(np.uint16) * 149
    ids[:3] = 65535
    ids[3:6] = 255
    data.add("train/wide", image_of(7), ids, mask_suffix=suffix)
    image = image_of(8)
    image[:, :20] = 0
    data.add("val/edge", image, ids_of(8).astype(np.uint16), mask_suffix=suffix)
    before = labels_of(settings(data.root))
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    after = labels_of(copy)
    key = image_of(7).tobytes()
    assert after[key] == before[key]
    assert {"class 255", "class 298", "void"} <= {name for row in after[key] for name in row}


@pytest.mark.parametrize(
    "table",
    [
        {"classes": {0: "ground", 1: "yes", 2: "null"}},
        {"classes": ["1", "2", "3"]},
        {"classes": ["true", "#aabbcc", "a: b"], "ignore": [VOID]},
        {"classes": ["é'\"", "- x", "128,0,0"]},
        {"classes": ["ground", "thing"], "label_map": {0: "ground", 1: "thing", 2: "thing"}},
        {"classes": ["thing", "ground"], "label_map": {0: "ground", 1: "ignore", 2: "thing"}},
        {"classes": {"ground": [1, 2, 3], "road": [4, 5, 6], "tree": [7, 8, 9]}},
    ],
)
def test_tables_of_classes_mean_the_same(tmp_path: Path, table: dict[str, object]) -> None:
    compare(settings(Folder(tmp_path / "own", **table).root), tmp_path / "copy")


def test_a_class_named_ignore_is_no_void(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own", classes=["ground", "ignore", "tree"])
    with pytest.raises(DataError, match="a class is named ignore"):
        repaired(settings(data.root), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# --- names and places ---------------------------------------------------------------------------------------


def test_images_of_one_name_in_sub_folders_keep_their_masks(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own")
    for number, name in enumerate(
        ["a/1", "b/1", "c/1_2", "1_2", "A/1", "é/1", "1_2_2", "sp ace/'\"$x"], start=20
    ):
        data.add(f"train/{name}", image_of(number), ids_of(number))
    compare(settings(data.root), tmp_path / "co py 'x'")


def test_other_suffixes_and_links(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own")
    data.add("train/x.y", image_of(30), ids_of(30), suffix=".bmp", mask_suffix=".TIFF")
    data.add("train/x.z", image_of(31), ids_of(31), suffix=".PNG", mask_suffix=".gif")
    (data.root / "images/train/caf\udce9.png").symlink_to(data.root / "images/train/p1a.png")
    (data.root / "images/train/caf\udce9.png").unlink()
    (tmp_path / "link").symlink_to(data.root, target_is_directory=True)
    compare(settings(tmp_path / "link"), tmp_path / "copy")


def test_channels_that_are_chosen_are_those_of_the_copy(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own")
    for number in range(6):
        split = "train" if number < 4 else "val"
        data.add(f"{split}/p{number}a", image_of(number, channels=4), ids_of(number))
    (data.root / "images/train/p0again.png").write_bytes((data.root / "images/train/p0a.png").read_bytes())
    small = Image.fromarray(ids_of(9)).resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.NEAREST)
    data.add("val/small", image_of(9, channels=4), small)
    dataset = with_settings(data.root, channels=[3, 0, 1])
    copy = repaired(dataset, tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    after = labels_of(copy)
    assert len(after) == 7
    for number in range(6):
        image = np.ascontiguousarray(image_of(number, channels=4)[..., [3, 0, 1]])
        names = np.array(["ground", "road", "tree"])
        assert after[image.tobytes()] == names[ids_of(number)].tolist()


def test_a_seeded_split_is_the_split_of_the_copy(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own")
    for kind in ("images", "masks"):
        for split in SPLITS:
            for path in (data.root / kind / split).iterdir():
                path.rename(data.root / kind / path.name)
            (data.root / kind / split).rmdir()
    (data.root / "images/p0again.png").unlink()
    (data.root / "masks/p0again.png").unlink()
    Image.fromarray(np.full((HEIGHT, WIDTH), VOID, np.uint8)).save(data.root / "masks/p5a.png")
    dataset = with_settings(data.root, val_fraction=0.3, split_seed=3)
    copy = repaired(dataset, tmp_path / "copy")
    for split in SPLITS:
        ours, theirs = dataset_of(dataset, split=split), dataset_of(copy, split=split)
        names = [path.stem for path, _ in ours.samples.pairs]  # type: ignore[attr-defined]
        assert [path.stem for path, _ in theirs.samples.pairs] == [  # type: ignore[attr-defined]
            name for name in names if name != "p5a"
        ]


def test_a_training_image_that_both_splits_list_stays_in_the_evaluated_one(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own")
    for kind in ("images", "masks"):
        for split in SPLITS:
            for path in (data.root / kind / split).iterdir():
                path.rename(data.root / kind / path.name)
            (data.root / kind / split).rmdir()
    (data.root / "train.txt").write_text("p0a\np1a\np2a\np3a\n", encoding="utf-8")
    (data.root / "val.txt").write_text("p3a\np4a\np5a\n", encoding="utf-8")
    copy = repaired(settings(data.root), tmp_path / "copy")
    stems = [
        [path.stem for path, _ in dataset_of(copy, split=split).samples.pairs]  # type: ignore[attr-defined]
        for split in SPLITS
    ]
    assert stems == [["p0a", "p1a", "p2a"], ["p3a", "p4a", "p5a"]]


def test_out_inside_the_folders_of_the_data_set_is_refused(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own")
    with pytest.raises(DataError, match="where the data set has files; nothing was written"):
        repaired(settings(data.root), data.root / "images/train/copy")
    assert not (data.root / "images/train/copy").exists()


def test_a_copy_that_was_interrupted_has_no_table_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Folder(tmp_path / "own")
    found = checked(settings(data.root))
    assert found.stated is not None

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(found.findings, found.facts, found.files, found.stated, tmp_path / "copy", progress=stop)
    assert list((tmp_path / "copy/images/train").iterdir())
    with pytest.raises(DataError, match=r"classes.yaml is missing"):
        dataset_of(settings(tmp_path / "copy"), split="train")


def test_what_cannot_be_repaired_stays_an_error_of_the_copy(tmp_path: Path) -> None:
    """Transparency that nobody explained is not dropped by another repair of the same sample."""
    data = Folder(tmp_path / "own")
    image = image_of(7)
    image[:, :20] = 0
    mask = palette_mask(ids_of(7))
    data.add("train/seen", image, ids_of(7))
    mask.save(data.root / "masks/train/seen.png", transparency=2)
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert [finding.kind for finding in checked(copy).of_level(Level.ERROR)] == ["transparent"]


# --- guesses that would be wrong ----------------------------------------------------------------------------


def rewrite(data: Folder, change: dict[int, int]) -> None:
    table = np.arange(256, dtype=np.uint8)
    for raw, other in change.items():
        table[raw] = other
    for path in (data.root / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            ids = np.array(mask)
        Image.fromarray(table[ids]).save(path)


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [  # names of the raw ids 0, 1 and 2 in the copy
        (
            {"classes": ["road", "car", "bus"], "label_map": {7: "road", 8: "car", 11: "bus"}},
            {0: 7, 1: 8, 2: 26},
            ["road", "car", "class_26"],
        ),
        (
            {"classes": ["road", "car", "bus"], "label_map": {1: "road", 2: "car", 5: "bus"}},
            {0: 1, 1: 2, 2: 3},
            ["road", "car", "class_3"],
        ),
        ({"classes": [f"n{index}" for index in range(21)]}, {1: 20, 2: 40}, ["n0", "n20", "class_40"]),
        ({"classes": ["road", "car", "bus"]}, {2: 9}, ["road", "car", "class_9"]),
        ({"classes": ["ground", "object"]}, {1: 7, 2: 7}, ["ground", "object", "object"]),
    ],
)  # fmt: skip
def test_stated_ids_keep_their_meaning_beside_unknown_ones(
    tmp_path: Path, table: dict[str, object], change: dict[int, int], expected: list[str]
) -> None:
    data = Folder(tmp_path / "own", **table)
    rewrite(data, change)
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    label = labels_of(copy)[image_of(4).tobytes()]
    ids = ids_of(4)
    for raw, name in enumerate(expected):
        assert {label[y][x] for y, x in np.argwhere(ids == raw)} == {name}


def test_stated_colours_keep_their_meaning_where_voc_has_another_one(tmp_path: Path) -> None:
    """Colours of VOC's palette in an order of one's own, and VOC's void, which classes.yaml does not name."""
    colours = {"ground": [0, 0, 0], "car": [0, 128, 0], "road": [128, 0, 0]}
    data = Folder(tmp_path / "own", classes=colours)
    palette = np.array([*colours.values(), [224, 224, 192]], np.uint8)
    for path in (data.root / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            ids = np.array(mask)
        ids[:6] = 3
        Image.fromarray(palette[ids]).save(path)
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    label = labels_of(copy)[image_of(4).tobytes()]
    ids = ids_of(4)
    ids[:6] = 3
    for raw, name in enumerate(["ground", "car", "road"]):
        assert {label[y][x] for y, x in np.argwhere(ids == raw)} == {name}


@pytest.mark.parametrize("names", [["ground", "road", "tree"], ["ground", "object"]])
def test_grey_saved_as_colour_holds_the_ids(tmp_path: Path, names: list[str]) -> None:
    data = Folder(tmp_path / "own", classes=names)
    factor = 1 if len(names) == 3 else 255
    for path in (data.root / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            ids = np.minimum(np.array(mask), len(names) - 1) * np.uint8(factor)
        Image.fromarray(np.stack([ids] * 3, axis=2)).save(path)
    found = checked(settings(data.root))
    assert [finding.kind for finding in found.of_level(Level.ERROR)] == ["grey_as_colour"]
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    label = labels_of(copy)[image_of(4).tobytes()]
    ids = np.minimum(ids_of(4), len(names) - 1)
    assert label == np.array(names)[ids].tolist()


def test_palettes_made_for_each_file_are_named(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own", classes=[f"n{index}" for index in range(5)])
    palette = np.array([[90, 0, 0], [0, 90, 0], [0, 0, 90], [9, 90, 90], [90, 90, 9]], np.uint8)
    assert not checked(settings(data.root)).of_level(Level.ERROR)
    for number, path in enumerate(sorted((data.root / "masks").rglob("*.png"))):
        colours = Image.fromarray(palette[(ids_of(number) + number) % 5])
        colours.convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(path)
    kinds = [one.kind for one in checked(settings(data.root)).of_level(Level.WARNING)]
    assert "palettes_differ" in kinds


def test_a_colour_mask_among_ids_without_void(tmp_path: Path) -> None:
    data = Folder(tmp_path / "own", classes=["ground", "road", "tree"])
    palette = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    data.add("train/colour", image_of(9), palette[ids_of(9)])
    copy = repaired(settings(data.root), tmp_path / "copy")
    assert not checked(copy).of_level(Level.ERROR)
    label = labels_of(copy)[image_of(9).tobytes()]
    assert label == np.array(["ground", "road", "tree"])[ids_of(9)].tolist()


@pytest.mark.parametrize("factor", [2, 6])
@pytest.mark.parametrize("how", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
@pytest.mark.parametrize("ids", [(0, 3, 6), (0, 8, 17)])
def test_wide_ramps_have_no_class_in_between(
    tmp_path: Path, factor: int, how: int, ids: tuple[int, ...]
) -> None:
    data = Folder(tmp_path / "own", classes=[f"n{index}" for index in range(19)])
    truth = {}
    for folder in ("images", "masks"):
        (data.root / folder / "train/p0again.png").unlink()
    for number, path in enumerate(sorted((data.root / "masks").rglob("*.png"))):
        small = np.array(ids, np.uint8)[ids_of(number)]
        size = (WIDTH * factor, HEIGHT * factor)
        Image.fromarray(cv2.resize(small, size, interpolation=how)).save(path)
        image = data.root / "images" / path.relative_to(data.root / "masks")
        with Image.open(image) as opened:
            large = opened.resize(size, Image.Resampling.NEAREST)
        large.save(image)
        truth[np.array(large).tobytes()] = small.repeat(factor, axis=0).repeat(factor, axis=1)
    found = checked(settings(data.root))
    if not any(finding.repair for finding in found.findings):
        return
    copy = repaired(settings(data.root), tmp_path / "copy")
    names = np.array([f"n{index}" for index in range(19)])
    for key, label in labels_of(copy).items():
        own, right = np.array(label), names[truth[key]]
        around = cv2.morphologyEx(truth[key], cv2.MORPH_GRADIENT, np.ones((2 * factor + 1,) * 2)) > 0
        assert not ((own != right) & (own != "void") & ~around).any()
        assert set(np.unique(own).tolist()) <= {*names[list(ids)].tolist(), "void"}
