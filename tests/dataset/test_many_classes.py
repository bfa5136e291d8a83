"""More classes than 8 bits hold: from 16-bit masks to the ids that are predicted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import deeplabx as package
from deeplabx.augment.standard import StandardAugment
from deeplabx.config import schema
from deeplabx.dataset.class_balance import count_pixels
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.label_file import read_label
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.loader import training_batches
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.writing import write_ids
from deeplabx.errors import ConfigError, DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Deeplabx

HEIGHT, WIDTH = 66, 70
SMALLEST = [
    *("model=lraspp", "backbone=mobilenetv3_small", "augment.crop_size=65", "trainer.batch_size=2"),
    *("schedule.max_iters=2", "trainer.devices=cpu", "trainer.workers=0", "trainer.samples=1"),
    "trainer.precision=fp32",
]


def blocks(seed: int, values: Any) -> np.ndarray:
    """Values in blocks of 6 x 7 pixels."""
    chosen = np.random.default_rng(seed).choice(np.array(values), (11, 10))
    return np.kron(chosen, np.ones((6, 7), chosen.dtype))


def write_folder(root: Path, masks: list[np.ndarray], **table: Any) -> Path:
    """The first masks for training, the last two to evaluate; uint16 are saved as 16-bit grey."""
    for number, mask in enumerate(masks):
        split = "val" if number >= len(masks) - 2 else "train"
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (*mask.shape[:2], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / split / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / split / f"{number}.png")
    (root / "classes.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    return root


def names(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def folder_of_300(root: Path) -> Path:
    values = np.array([*range(300), 65535], np.uint16)
    return write_folder(root, [blocks(seed, values) for seed in range(5)], classes=names(300), ignore=[65535])


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]], ignored: int) -> float:
    """Of (label, prediction) pairs, pixel by pixel."""
    hits: Counter[int] = Counter()
    labelled: Counter[int] = Counter()
    predicted: Counter[int] = Counter()
    for label, ids in pairs:
        for truth, guess in zip(label.ravel().tolist(), ids.ravel().tolist(), strict=True):
            if truth != ignored:
                labelled[truth] += 1
                predicted[guess] += 1
                hits[truth] += truth == guess
    seen = labelled.keys() | predicted.keys()
    return sum(hits[one] / (labelled[one] + predicted[one] - hits[one]) for one in seen) / len(seen)


@pytest.mark.slow
def test_300_classes_are_trained_evaluated_and_predicted(tmp_path: Path, deeplabx: Deeplabx) -> None:
    root, run = folder_of_300(tmp_path / "own"), tmp_path / "run"
    settings = ["dataset=folder", f"dataset.root={root}", *SMALLEST, "loss.class_balance=enet"]
    result = package.train(settings, run)

    longest = max(map(len, (run / "train.log").read_text().splitlines()))
    assert longest < 800  # no line names every class
    config = json.loads((next(run.glob("checkpoints/step-*")) / "config.json").read_text())
    assert (len(config["classes"]), config["ignore_index"]) == (300, 65535)

    ended = deeplabx("predict", str(run), str(root / "images/val"), "out=out", "trainer.devices=cpu")
    assert ended.code == 0, ended.err
    pairs = []
    for path in sorted((root / "masks/val").iterdir()):
        with Image.open(tmp_path / "out" / path.name) as written:
            assert written.mode == "I;16"
        pairs.append(
            (np.array(Image.open(path)), np.asarray(cv2.imread(str(tmp_path / "out" / path.name), -1)))
        )
        assert (read_label(tmp_path / "out" / path.name) == pairs[-1][1]).all()
    assert package.evaluate(run).miou == result.miou == pytest.approx(mean_iou(pairs, 65535), rel=1e-12)
    each = list(package.predict(run, sorted((root / "images/val").iterdir())))
    assert all((ids == wanted).all() for ids, (_, wanted) in zip(each, pairs, strict=True))
    assert {ids.dtype for ids in each} == {np.dtype(np.uint16)}


def test_sparse_raw_ids_up_to_65535_become_train_ids(tmp_path: Path) -> None:
    values = np.array([0, 1000, 65534, 65535], np.uint16)
    masks = [blocks(seed, values) for seed in range(4)]
    table = {"classes": ["a", "b", "c"], "label_map": {0: "a", 65535: "b", 1000: "c", 65534: "ignore"}}
    samples = open_dataset("folder", split="train", root=str(write_folder(tmp_path, masks, **table)))
    for index in range(2):
        expected = np.select([masks[index] == 0, masks[index] == 65535, masks[index] == 1000], [0, 1, 2], 255)
        assert samples.label(index).dtype == np.uint8
        assert (samples.label(index) == expected).all()


@pytest.mark.parametrize("count", [254, 255, 256, 257, 1000])
def test_labels_are_uint16_of_more_than_254_classes(tmp_path: Path, count: int) -> None:
    """Of a data set with and without void, at the edges of 8 bits."""
    top = 65535 if count > 254 else 255
    masks = [blocks(seed, np.array([*range(count), top], np.uint16)) for seed in range(3)]
    for number, ignored in enumerate(([top], [])):
        own = [np.where(mask == top, mask if ignored else 0, mask).astype(np.uint16) for mask in masks]
        root = write_folder(tmp_path / str(number), own, classes=names(count), ignore=ignored)
        samples = open_dataset("folder", split="train", root=str(root))
        assert samples.ignore_index == top
        assert samples.label(0).dtype == (np.uint16 if count > 254 else np.uint8)
        assert (samples[0].label == own[0]).all()


def test_8_bit_masks_may_hold_all_256_ids_as_classes(tmp_path: Path) -> None:
    masks = [blocks(seed, np.arange(256, dtype=np.uint8)) for seed in range(3)]
    root = write_folder(tmp_path, masks, classes=names(256))
    assert (open_dataset("folder", split="train", root=str(root)).label(0) == masks[0]).all()
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": names(256), "ignore": [255]}))
    with pytest.raises(DataError, match=r"255 is both class 'class 255' and in ignore\n.* void can be 65535"):
        open_dataset("folder", split="train", root=str(root))


def test_masks_of_more_than_254_colours(tmp_path: Path) -> None:
    palette = voc_palette(300)
    ids = [blocks(seed, np.arange(300)) for seed in range(3)]
    table = {"classes": {name: list(colour) for name, colour in zip(names(300), palette, strict=True)}}
    masks = [np.array(palette, np.uint8)[one] for one in ids]
    masks[0][0, 0] = 255
    root = write_folder(tmp_path, masks, **table, ignore=["#ffffff"])
    label = open_dataset("folder", split="train", root=str(root)).label(0)
    assert label[0, 0] == 65535
    assert (label.ravel()[1:] == ids[0].ravel()[1:]).all()


def test_more_than_1000_classes_are_refused_and_messages_stay_short(tmp_path: Path) -> None:
    masks = [np.full((4, 4), 7, np.uint16)] * 3
    root = write_folder(tmp_path, masks, classes=names(1001))
    with pytest.raises(DataError, match=r"1001 classes; there must be 2 to 1000, .*\nmap rare values"):
        open_dataset("folder", split="train", root=str(root))
    for table, words in (
        ({"classes": names(1000), "label_map": {0: "other"}}, "class 19, ... .1000 in all., or ignore"),
        ({"classes": names(1000), "label_map": {0: "class 0"}}, "nothing to class 1, .*999 in all"),
        ({"classes": [*names(999), "class 5"]}, "duplicate class name: class 5$"),
        ({"classes": names(1000), "label_map": {7 + i: f"class {i}" for i in range(1000)}}, ""),
    ):
        (root / "classes.yaml").write_text(yaml.safe_dump(table))
        if words:
            with pytest.raises(DataError, match=words) as error:
                open_dataset("folder", split="train", root=str(root))
            assert max(map(len, str(error.value).splitlines())) < 500
    samples = open_dataset("folder", split="train", root=str(root))
    Image.fromarray(np.full((4, 4), 5, np.uint16)).save(root / "masks/train/0.png")
    with pytest.raises(DataError, match=r"id 5 at row 0.*\nknown ids: 7, 8, .* ... \(1000 in all\)") as error:
        samples.label(0)
    assert max(map(len, str(error.value).splitlines())) < 500


def test_the_classes_of_300_are_counted(tmp_path: Path) -> None:
    samples = open_dataset("folder", split="train", root=str(folder_of_300(tmp_path)))
    labels = [samples.label(index).ravel() for index in range(len(samples))]
    (own, around), everything = count_pixels(samples, range(3), workers=0).tolist(), np.concatenate(labels)
    assert own == [int((everything == index).sum()) for index in range(300)]
    for index in (0, 255, 256, 299):
        there = [label for label in labels if (label == index).any()]
        assert around[index] == sum(int((label != 65535).sum()) for label in there if (label < 300).any())


# --- augmentation, batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_an_augmented_wide_label_is_the_narrow_one_in_other_numbers(seed: int) -> None:
    """Each id of 8 bits stands for one of 16: the same pixels are chosen, and no id is invented."""
    rng = np.random.default_rng(seed)
    wide = np.append(rng.choice(65535, 255, replace=False), 65535).astype(np.uint16)
    label = rng.integers(0, 256, (rng.integers(20, 90), rng.integers(20, 90)), dtype=np.uint8)
    image = np.zeros((*label.shape, 3), np.uint8)
    augment = {
        ignored: StandardAugment(
            crop_size=65, scale_min=0.5, scale_max=2, flip=0.5, pad_pixel=(1, 2, 3), ignore_index=ignored
        )
        for ignored in (255, 65535)
    }
    _, narrow = augment[255](image, label, np.random.default_rng(seed))
    _, found = augment[65535](image, wide[label], np.random.default_rng(seed))
    assert found.dtype == np.uint16
    assert (found == wide[narrow]).all()


def test_a_batch_of_wide_labels_is_int32(tmp_path: Path) -> None:
    samples = open_dataset("folder", split="train", root=str(folder_of_300(tmp_path)))
    augment = StandardAugment(
        crop_size=80, scale_min=1, scale_max=1, flip=0, pad_pixel=(0, 0, 0), ignore_index=samples.ignore_index
    )
    (batch,) = training_batches(
        *(samples, augment), batch_size=3, seed=0, first_step=0, last_step=1, workers=0, pin_memory=False
    )
    assert batch is not None
    assert batch.labels.dtype == torch.int32
    assert (batch.labels[:, HEIGHT:] == 65535).all()
    found = {tuple(label[:HEIGHT, :WIDTH].ravel().tolist()) for label in batch.labels}
    assert found == {tuple(samples.label(index).ravel().tolist()) for index in range(3)}


# --- predicted ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "mode"), [(2, "P"), (255, "P"), (256, "P"), (257, "I;16"), (1000, "I;16")])
def test_written_ids_are_read_back(tmp_path: Path, count: int, mode: str) -> None:
    ids = np.arange(count).reshape(1, -1).astype(np.uint8 if count <= 256 else np.uint16)
    write_ids(tmp_path / "ids.png", ids, voc_palette(count))
    with Image.open(tmp_path / "ids.png") as written:
        assert written.mode == mode
    assert (read_label(tmp_path / "ids.png") == ids).all()


def test_1000_colours_are_distinct_and_none_is_that_of_void() -> None:
    palette = voc_palette(1000)
    assert len({*palette, (255, 255, 255)}) == 1001
    assert palette.count((0, 0, 0)) == 1


# --- plug-ins -----------------------------------------------------------------------------------------------


class Own(SegmentationSet):
    """300 classes in labels of a plug-in's own."""

    classes, palette, ignore_index = names(300), voc_palette(300), 65535
    dtype: type = np.uint16
    added = 0

    def __init__(self, *, split: str, root: str | None) -> None:
        pass

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        label = blocks(index, np.array([*range(300), self.ignore_index])) + self.added
        return Sample(np.zeros((*label.shape, 3), np.uint8), label.astype(self.dtype))


@pytest.mark.usefixtures("own_options")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"ignore_index": 300}, ""),
        ({"dtype": np.int64}, "its label is int64, but must be a uint16 array"),
        (
            {"dtype": np.uint8},
            "its label is uint8, but must be a uint16 array\n.*300 classes and ignore_index=65535",
        ),
        (
            {"ignore_index": 255},
            "ignore_index=255 must be a value up to 65535 that is no class, such as 65535",
        ),
        ({"ignore_index": 65536}, "ignore_index=65536 must be a value up to 65535"),
        (
            {"added": 1, "ignore_index": 65534},
            r"its label contains (300|65535), but must be below 300 or 65534",
        ),
        ({"classes": names(1001), "palette": voc_palette(1001)}, "1001 classes; there must be at most 1000"),
    ],
)
def test_a_plug_in_of_300_classes(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    kind = type("Changed", (Own,), changes)
    package.register("dataset", "own", build=kind, settings=schema.DatasetSettings, words="")
    settings = ["dataset=own", *SMALLEST, "schedule.max_iters=1", "trainer.samples=0"]
    if words:
        with pytest.raises(ConfigError, match=words):
            package.train(settings, tmp_path / "run")
    else:
        assert package.train(settings, tmp_path / "run").step == 1


def test_an_ignored_id_above_255_makes_labels_of_few_classes_uint16() -> None:
    changes = {"classes": names(3), "palette": voc_palette(3), "ignore_index": 300}
    samples = ReadableSet(type("Few", (Own,), changes)(split="train", root=None))
    assert samples.label_dtype == np.uint16
    with pytest.raises(ConfigError, match="must be below 3 or 300"):
        samples.label(0)


@pytest.mark.usefixtures("own_options")
@pytest.mark.parametrize(("dtype", "words"), [(np.uint16, ""), (np.uint8, "gives the label as uint8")])
def test_an_augmentation_gives_wide_labels_back_as_they_are(tmp_path: Path, dtype: type, words: str) -> None:
    def build(*, crop_size: int, pad_pixel: Any, ignore_index: int) -> Any:
        size = (slice(crop_size), slice(crop_size))
        return lambda image, label, random: (image[size], label[size].astype(dtype))

    package.register("dataset", "own", build=Own, settings=schema.DatasetSettings, words="")
    package.register("augment", "own", build=build, settings=schema.AugmentSettings, words="")
    settings = ["dataset=own", "augment=own", *SMALLEST, "schedule.max_iters=1", "trainer.samples=0"]
    if words:
        with pytest.raises(ConfigError, match=f"augment=own {words}"):
            package.train(settings, tmp_path / "run")
    else:
        package.train(settings, tmp_path / "run")


def test_show_takes_1000_classes(deeplabx: Deeplabx) -> None:
    ended = deeplabx("show", "model=lraspp", "backbone=mobilenetv3_small", "num_classes=1000")
    assert "classes        1000" in ended.out
