import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageFile

from deeplabx.command.compose import training_config
from deeplabx.dataset.check.headers import check_headers
from deeplabx.dataset.contract import Sample
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.label_file import RawLabel
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.writing import write_image
from deeplabx.errors import ConfigError, DataError
from deeplabx.run import build
from deeplabx.run.build import open_dataset
from tests.conftest import TINY, Deeplabx, Root
from tests.dataset.by_hand import exif, png, tiff

IMAGE, MASK = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), np.uint8)
IMAGE_PATH, MASK_PATH = "images/train/0150.png", "masks/train/0150.png"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 small pairs."""
    root = tmp_path_factory.mktemp("many")
    for index in range(300):
        write_image(root / f"images/train/{index:04}.png", IMAGE)
        write_image(root / f"masks/train/{index:04}.png", MASK)
    (root / "classes.yaml").write_text("classes: [background, object]\n")
    return root


def opened(root: Path, **settings: Any) -> ReadableSet:
    return open_dataset("folder", root=str(root), split="train", **settings)


def written(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / path).write_bytes(content)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "size": (written(MASK_PATH, png(MASK[1:])), "0150.png is 8 x 6 but .*0150.png is 8 x 5"),
    "turned mask": (written(MASK_PATH, png(MASK.T)), "is 8 x 6 but .* is 6 x 8"),
    "empty": (written(IMAGE_PATH, b""), "the file is empty"),
    "text": (written(MASK_PATH, b"text"), "not a readable image"),
    "lossy": (
        lambda root: Image.fromarray(MASK).save(root / MASK_PATH, "JPEG"),
        "a mask must not be a JPEG file",
    ),
    "pages": (written(IMAGE_PATH, tiff((IMAGE, {}), (IMAGE, {}))), "has 2 pages"),
    "channels": (written(IMAGE_PATH, tiff((np.dstack([IMAGE, MASK]), {338: [0]}))), "4 channels per pixel"),
    "deep": (written(IMAGE_PATH, png(IMAGE, bits=16, colour=2)), "its 16 bits per channel"),
    "colours": (written(MASK_PATH, png(IMAGE, colour=2)), "a label file must hold ids"),
    "square turned by EXIF": (
        written(IMAGE_PATH, png(IMAGE, colour=2, before=[(b"eXIf", exif(3))])),
        "is rotated by EXIF",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_pair_of_many_is_found_before_any_pixel_is_decoded(
    intact: Path, tmp_path: Path, name: str
) -> None:
    root = shutil.copytree(intact, tmp_path / "own")
    change, words = WRONG[name]
    change(root)
    with pytest.raises(DataError) as raised:
        opened(root)[150]
    message = raised.value.message
    with pytest.raises(DataError, match=words) as found:
        check_headers(opened(root))
    first = "1 of 300 pairs of split train cannot be used, the first: "
    assert (found.value.message, found.value.hint) == (first + message, raised.value.hint)
    assert check_headers(opened(root, skip_unreadable=True)) == [f"{first}{message}; they are skipped"]


def test_wrong_pairs_are_counted_and_nothing_is_decoded(intact: Path, tmp_path: Path) -> None:
    root = shutil.copytree(intact, tmp_path / "own")
    with mock.patch.object(ImageFile.ImageFile, "load", side_effect=AssertionError):
        assert check_headers(opened(root)) == []
    for index in (7, 100, 299):
        (root / f"masks/train/{index:04}.png").write_bytes(png(MASK[2:]))
    samples = opened(root)
    (root / "images/train/0003.png").unlink()
    with pytest.raises(
        DataError, match=r"^4 of 300 pairs .*, the first: .*images/train/0003.png does not exist"
    ):
        check_headers(samples)


def test_what_only_the_pixels_show_is_left_to_reading(intact: Path, tmp_path: Path) -> None:
    root = shutil.copytree(intact, tmp_path / "own")
    (root / IMAGE_PATH).write_bytes(png(IMAGE, colour=2, after=[(b"eXIf", exif(6))]))  # behind the pixels
    (root / MASK_PATH).write_bytes(png(MASK.T))
    assert check_headers(opened(root)) == []
    assert opened(root)[150].image.shape == (8, 6, 3)


def test_sets_without_image_files_have_no_headers(fake_root: Root) -> None:
    assert check_headers(open_dataset("shapes", split="train", train_images=4, val_images=2)) == []
    for name in ("voc", "cityscapes", "camvid"):
        assert check_headers(open_dataset(name, split="train", root=str(fake_root(name)))) == []


class OwnSamples(LabelledFiles):
    """A plug-in's images as arrays, which no library of image files reads."""

    classes, palette = ["background", "object"], [(0, 0, 0), (9, 9, 9)]

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.load(self.pairs[index][0]), self.label(index))


class OwnLabels(OwnSamples):
    def __getitem__(self, index: int) -> Sample:
        return LabelledFiles.__getitem__(self, index)

    def read_raw(self, path: Path) -> RawLabel:
        return RawLabel(np.load(path))


@pytest.mark.parametrize("kind", [OwnSamples, OwnLabels])
def test_a_plug_in_that_reads_files_itself_is_not_held_to_headers(
    kind: type[LabelledFiles], tmp_path: Path
) -> None:
    array, file = tmp_path / "array.npy", tmp_path / "file.png"
    own = kind is OwnSamples
    np.save(array, IMAGE if own else MASK)
    file.write_bytes(png(MASK) if own else png(IMAGE, colour=2))
    pair = (array, file) if own else (file, array)
    samples = ReadableSet(kind([pair], label_map=LabelMap({0: 0, 1: 1})))
    assert samples[0].image.shape == IMAGE.shape
    assert check_headers(samples) == []


def test_channels_are_refused_where_a_plug_in_would_ignore_them(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ReadableSet(OwnSamples([], label_map=LabelMap({0: 0, 1: 1})))
    monkeypatch.setattr(build, "open_dataset", lambda *args, **settings: own)
    config = training_config(["dataset=folder", "dataset.root=."]).dataset
    assert build.dataset_of(config, split="train") is own
    config.channels = [0, 1, 2]
    with pytest.raises(ConfigError, match="dataset=folder does not use it"):
        build.dataset_of(config, split="train")


def test_headers_of_many_pairs_take_little_time(intact: Path) -> None:
    samples = opened(intact)
    began = time.perf_counter()
    check_headers(samples)
    assert time.perf_counter() - began < 2  # 20,000 pairs took 1.7 s


@pytest.mark.slow
def test_training_evaluation_and_prediction_find_it_first(tmp_path: Path, deeplabx: Deeplabx) -> None:
    root = tmp_path / "own"
    for split in ("train", "val"):
        for index in range(4):
            write_image(root / f"images/{split}/{index}.png", IMAGE)
            write_image(root / f"masks/{split}/{index}.png", np.tile(np.array([0, 1], np.uint8), (6, 4)))
    (root / "classes.yaml").write_text("classes: [background, object]\n")
    (root / "masks/val/3.png").write_bytes(png(MASK[1:]))
    tiny = [one for one in TINY if not one.startswith(("dataset.", "schedule", "trainer.samples"))]
    small = ["backbone=mobilenetv3_small", "model=lraspp", "schedule.max_iters=1", "trainer.samples=0"]
    train = ["train", *tiny, *small, "dataset=folder", f"dataset.root={root}", "hydra.run.dir=run"]
    words = "1 of 4 pairs of split val cannot be used, the first: "
    ended = deeplabx(*train)
    assert ended.code == 3
    assert words in ended.err
    assert not (tmp_path / "run/checkpoints").exists()
    ended = deeplabx(*train, "dataset.on_bad=skip")
    assert ended.code == 0
    assert ended.out.count(words) == 1
    ended = deeplabx("eval", "run", "dataset.on_bad=abort", "trainer.devices=cpu", "hydra.run.dir=eval")
    assert ended.code == 3
    assert words in ended.err

    Image.fromarray(np.dstack([IMAGE, MASK])).save(tmp_path / "hole.png")
    ended = deeplabx("predict", "run", "hole.png", "out=refused")
    assert ended.code == 3
    assert "48 of 48 pixels are transparent" in ended.err
    assert deeplabx("predict", "run", "hole.png", "out=taken", "dataset.channels=[0,1,2]").code == 0
    train[-1] = "hydra.run.dir=other"
    for wrong, words in (("[0,1]", "must be three indices"), ("[0,1,-1]", "out of range")):
        ended = deeplabx(*train, f"dataset.channels={wrong}")
        assert ended.code == 2
        assert words in ended.err
    ended = deeplabx("train", *TINY, "dataset.channels=[0,1,2]", "hydra.run.dir=other")
    assert ended.code == 2
    assert "dataset=shapes does not use it" in ended.err
