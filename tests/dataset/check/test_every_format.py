"""data check and its repaired copy, on every layout that `data fake` writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplabx.command.compose import composed
from deeplabx.config import checks, schema
from deeplabx.dataset.check.finding import Level
from deeplabx.dataset.check.repair import repair
from deeplabx.dataset.fake import write_fake
from deeplabx.dataset.files import LabelledFiles
from deeplabx.run.build import dataset_of
from deeplabx.run.checked_data import CheckedData, check_data

SETS = [
    *("voc", "cityscapes", "camvid", "ade20k", "coco_stuff164k", "coco_stuff10k", "pascal_context"),
    *(f"folder {name}" for name in ("masks", "beside", "coco", "labelme", "list")),
]


def settings_of(words: str, root: Path) -> schema.DatasetSettings:
    name, _, layout = words.partition(" ")
    given = [f"dataset={name}", *([f"dataset.format={layout}"] if layout else [])]
    config: schema.DatasetSettings = checks.checked(composed("data check", given)).dataset
    return replace(config, root=str(root), split="test" if name == "coco_stuff10k" else "val")


def checked(dataset: schema.DatasetSettings) -> CheckedData:
    return check_data(dataset, splits=[dataset.train_split, dataset.split], workers=0)


def labels_of(dataset: schema.DatasetSettings, split: str) -> dict[str, np.ndarray]:
    """Of each image by its name: for each class its pixels, so that orders of classes may differ."""
    samples = dataset_of(dataset, split=split)
    files = samples.samples
    assert isinstance(files, LabelledFiles)
    names = np.array([*samples.classes, "void"])
    found = {}
    for index, (image, _) in enumerate(files.pairs):
        label = samples.label(index).astype(np.int64)
        label[label == samples.ignore_index] = len(names) - 1
        found[image.stem] = names[label]
    return found


@pytest.mark.parametrize("words", SETS)
def test_it_has_no_error_and_its_repaired_copy_has_its_labels(words: str, tmp_path: Path) -> None:
    name, _, layout = words.partition(" ")
    root = tmp_path / "fake"
    write_fake(name, root, images=4, seed=3, labels=layout or "masks")
    dataset = settings_of(words, root)
    found = checked(dataset)
    assert found.of_level(Level.ERROR) == []
    before = {split: labels_of(dataset, split) for split in (dataset.train_split, dataset.split)}
    damaged = found.files[dataset.train_split].pairs[1][0]
    damaged.write_bytes(damaged.read_bytes()[:700])
    found = checked(dataset)
    assert [finding.kind for finding in found.of_level(Level.ERROR)] == ["unreadable"]
    assert found.stated is not None
    out = tmp_path / "copy"
    repair(found.findings, found.facts, found.files, found.stated, out)
    copy = replace(settings_of("folder", out), train_split=dataset.train_split, split=dataset.split)
    assert checked(copy).of_level(Level.ERROR) == []
    del before[dataset.train_split][damaged.stem]
    for split, labels in before.items():
        repaired = labels_of(copy, split)
        assert repaired.keys() == labels.keys()
        assert all((repaired[stem] == labels[stem]).all() for stem in labels)
