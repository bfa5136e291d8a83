from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from deeplabx.command.yaml_files import choices
from deeplabx.dataset.fake import FAKES, write_fake
from deeplabx.dataset.fake_folder import FOLDER_FAKES
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root

KINDS = (".png", ".jpg", ".json", ".csv")
EVERY = [*FAKES, *(f"folder/{labels}" for labels in FOLDER_FAKES)]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_reader_reads_its_fake(name: str, split: str, fake_root: Root) -> None:
    dataset, _, labels = name.partition("/")
    settings: dict[str, Any] = {"format": labels} if labels else {}
    samples = open_dataset(dataset, root=str(fake_root(name)), split=split, **settings)
    assert len(samples) == 4
    for index in range(len(samples)):
        image, label = samples[index]
        assert image.shape[:2] == label.shape
        classes = set(np.unique(label).tolist())
        assert classes <= {*range(len(samples.classes)), samples.ignore_index}
        assert len(classes) >= 2
        # each class is drawn in its own colour: the image and the label belong together
        for value in classes - {samples.ignore_index}:
            # JPEG blends the colours of a border.
            inner = cv2.erode((label == value).astype(np.uint8), np.ones((9, 9))) > 0
            if inner.any():
                assert np.abs(image[inner].mean(axis=0) - samples.palette[value]).max() < 30


@pytest.mark.parametrize("name", EVERY)
def test_a_fake_is_a_function_of_its_seed(name: str, tmp_path: Path) -> None:
    contents = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        dataset, _, labels = name.partition("/")
        write_fake(dataset, tmp_path / folder, images=2, seed=seed, labels=labels or "masks")
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.suffix in KINDS)
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1] != contents[2]


def test_every_data_set_of_files_has_a_fake() -> None:
    assert sorted([*FAKES, "folder", "shapes"]) == choices("dataset")


def test_nothing_is_written_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="already exists; nothing was written"):
        write_fake("voc", tmp_path, images=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_fake_folders_table_is_what_a_user_would_write(fake_root: Root) -> None:
    table = yaml.safe_load((fake_root("folder") / "classes.yaml").read_text())
    assert table["classes"]["road"] == [128, 0, 0]
    assert table["ignore"] == [255]
