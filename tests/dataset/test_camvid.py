from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset import build_dataset
from deeplabx.errors import DataError


def fake_camvid(root: Path) -> Path:
    """Two frames in the original layout."""
    rng = np.random.default_rng(0)
    for folder in ("val", "valannot"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 255, (36, 48, 3), dtype=np.uint8)).save(root / "val" / f"{name}.png")
        Image.fromarray(rng.integers(0, 12, (36, 48), dtype=np.uint8)).save(root / "valannot" / f"{name}.png")
    return root


def test_void_is_ignored_and_the_other_ids_stay(tmp_path: Path) -> None:
    root = fake_camvid(tmp_path)
    samples = build_dataset("camvid", root=str(root), split="val")
    assert len(samples) == 2
    raw = np.array(Image.open(root / "valannot" / "a.png"))
    assert (samples[0].label == np.where(raw == 11, 255, raw)).all()
    assert samples[0].name == "a"
    assert len(samples.classes) == len(samples.palette) == 11


def test_wrong_roots_say_what_was_expected_and_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.root is not set"):
        build_dataset("camvid", root=None, split="val")
    with pytest.raises(DataError, match=r"must hold val/ and valannot/, but there is no such folder\nget it from"):
        build_dataset("camvid", root=str(tmp_path / "no"), split="val")
    root = fake_camvid(tmp_path / "camvid")
    with pytest.raises(DataError, match=r"must hold train/ and trainannot/, but it holds val, valannot"):
        build_dataset("camvid", root=str(root), split="train")
    (root / "valannot" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 frames .* have no label, the first: .*b.png"):
        build_dataset("camvid", root=str(root), split="val")


def test_an_id_that_is_no_class_names_its_file(tmp_path: Path) -> None:
    root = fake_camvid(tmp_path)
    Image.fromarray(np.full((36, 48), 12, np.uint8)).save(root / "valannot" / "a.png")
    with pytest.raises(DataError, match=r"a.png: id 12 at row 0, column 0"):
        build_dataset("camvid", root=str(root), split="val")[0]


def test_the_real_frames(camvid_root: Path) -> None:
    for split, images in (("train", 367), ("val", 101)):
        samples = build_dataset("camvid", root=str(camvid_root), split=split)
        assert len(samples) == images
        sample = samples[images // 2]
        assert sample.image.shape == (360, 480, 3)
        assert {int(value) for value in np.unique(sample.label)} <= {*range(11), 255}
