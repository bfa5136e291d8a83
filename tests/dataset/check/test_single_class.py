import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.camvid import CamVid
from deeplabx.dataset.check.single_class import refuse_single_class
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root


def test_masks_0_255_with_255_ignored_are_diagnosed(fake_root: Root, tmp_path: Path) -> None:
    root = shutil.copytree(fake_root("folder"), tmp_path / "own")
    for path in (root / "masks/train").iterdir():
        Image.fromarray(np.array([[0, 255]] * 120, np.uint8).repeat(80, axis=1)).save(path)
    with pytest.raises(
        DataError,
        match=r"training labels contain only background; all other pixels are void\n"
        r".*write classes: {0: background, 255: object}",
    ):
        refuse_single_class(open_dataset("folder", root=str(root), split="train"))


def test_labels_are_read_until_a_second_class_is_seen(fake_root: Root) -> None:
    class Counting(CamVid):
        read = 0

        def label(self, index: int) -> np.ndarray:
            self.read += 1
            return super().label(index)

    samples = Counting(root=str(fake_root("camvid")), split="train")
    refuse_single_class(ReadableSet(samples))
    assert samples.read == 1


def test_the_cause_is_said_where_it_is_another(fake_root: Root, tmp_path: Path) -> None:
    """Neither labels that cannot be read nor a transparent background are a question of `ignore`."""
    root = shutil.copytree(fake_root("folder"), tmp_path / "own")
    ids = np.array([[0, 1]] * 120, np.uint8).repeat(80, axis=1)
    for path in (root / "masks/train").iterdir():
        Image.fromarray(np.dstack([ids, 255 * ids])).save(path)
    (root / "classes.yaml").write_text("classes: [background, object]\n")
    with pytest.raises(DataError, match=r"only object; all other .* void\n.*dataset.mask_alpha=keep uses"):
        refuse_single_class(open_dataset("folder", root=str(root), split="train", mask_alpha="void"))
    refuse_single_class(open_dataset("folder", root=str(root), split="train", mask_alpha="keep"))
    samples = open_dataset("folder", root=str(root), split="train", skip_unreadable=True)
    with pytest.raises(
        DataError, match=r"none of the 4 training labels can be read\nthe first: .*transparent"
    ):
        refuse_single_class(samples)
    assert len(samples.take_errors()) == 4  # for unreadable.txt
