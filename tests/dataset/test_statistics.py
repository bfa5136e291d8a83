"""Statistics of a split against loops over all its pixels."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.check.facts import ChannelSums, Facts
from deeplabx.dataset.check.scan import scan
from deeplabx.dataset.class_balance import balanced_weights, count_pixels
from deeplabx.dataset.folder import Folder
from deeplabx.dataset.readable import ReadableSet, opened_split
from deeplabx.dataset.shapes import Shapes
from deeplabx.dataset.statistics import SplitStatistics, binned, median, plain, spread, suggested_crop, summed
from deeplabx.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def shapes() -> ReadableSet:
    return opened_split(Shapes, split="train", train_images=9, val_images=2)


@pytest.fixture(scope="module")
def found(shapes: ReadableSet) -> SplitStatistics:
    return summed(scan([shapes], workers=0), split="train", num_classes=len(shapes.classes))


def test_pixels_and_images_of_each_class(shapes: ReadableSet, found: SplitStatistics) -> None:
    labels = [label for _, label in (shapes[at] for at in range(len(shapes)))]
    for at in [*range(len(shapes.classes)), -1]:
        value = 255 if at == -1 else at
        assert found.pixels[at] == sum(int((label == value).sum()) for label in labels)
        assert found.holding[at] == sum(bool((label == value).any()) for label in labels)
    valid = sum(int((label != 255).sum()) for label in labels)
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares[1] == pytest.approx(found.pixels[1] / valid)
    assert found.void == pytest.approx(1 - valid / sum(label.size for label in labels))
    assert (found.images, found.unreadable, found.read) == (9, 0, 9)


def test_mean_and_std_are_those_of_all_pixels(shapes: ReadableSet, found: SplitStatistics) -> None:
    pixels = np.concatenate(
        [image.reshape(-1, 3) for image, _ in (shapes[at] for at in range(len(shapes)))]
    ).astype(np.float64)
    assert found.channels is not None
    np.testing.assert_allclose(found.channels.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.channels.std, pixels.std(axis=0), rtol=1e-12)


def test_class_weights_are_those_of_training(shapes: ReadableSet, found: SplitStatistics) -> None:
    counts = count_pixels(shapes, range(len(shapes)), workers=0)
    weights = found.class_weights()
    assert set(weights) == {"median_frequency", "enet", "effective_number"}
    for name, values in weights.items():
        assert values == balanced_weights(name, counts)


def test_the_variance_of_many_bright_pixels_keeps_its_digits() -> None:
    """254 and 255 in turn: in sums of squares of float64, a hundred such images lose most of the variance."""
    pixels = 4 * 10**9
    half = pixels // 2
    sums = ChannelSums(pixels, (float(509 * half),), (float((254**2 + 255**2) * half),))
    facts = [Facts("train", index, size=(2, 2), channels=sums) for index in range(100)]
    channels = summed(facts, split="train", num_classes=2).channels
    assert channels is not None
    assert channels.mean == (254.5,)
    assert channels.std == (0.5,)


def test_sizes() -> None:
    sizes = [(int(w), int(h)) for w, h in RNG.integers(20, 60, (41, 2))]
    facts = [Facts("train", index, size=size) for index, size in enumerate(sizes)]
    found = summed([*facts, Facts("val", 0, size=(9, 9))], split="train", num_classes=2)
    assert found.images == 41
    table = plain(found, ["a", "b"])["sizes"]
    for at, side in enumerate(("width", "height")):
        values = sorted(size[at] for size in sizes)
        assert table[side] == {"least": values[0], "median": values[20], "most": values[-1]}
    assert table["different"] == len(set(sizes))
    often = table["most_frequent"]
    counts = [sizes.count((one["width"], one["height"])) for one in often]
    assert [one["images"] for one in often] == counts == sorted(counts, reverse=True)


def test_the_median_is_numpys() -> None:
    for _ in range(200):
        values = RNG.integers(0, 30, RNG.integers(1, 40)).tolist()
        assert median(Counter(values)) == int(np.quantile(values, 0.5, method="lower"))
    assert vars(spread(Counter([5, 3, 9, 9]))) == {"least": 3, "median": 5, "most": 9}


def test_a_histogram_counts_every_value_once() -> None:
    for width in (1, 5, 19, 20, 300):
        values = RNG.integers(100, 100 + width, 500).tolist()
        edges, counts = binned(Counter(values))
        assert len(edges) == len(counts) + 1
        assert sum(counts) == 500
        inside = [sum(low <= one < high for one in values) for low, high in itertools.pairwise(edges)]
        inside[-1] += sum(one == edges[-1] for one in values)
        assert counts == inside


@pytest.mark.parametrize(
    ("side", "crop"), [(65, 65), (64, 49), (360, 353), (366, 353), (1024, 769), (20, 33), (1, 33), (785, 769)]
)
def test_the_suggested_crop(side: int, crop: int) -> None:
    assert suggested_crop(Counter({(side, 2 * side): 3, (3 * side, side): 2, (9000, 9000): 1})) == crop
    assert (crop - 1) % 16 == 0


def test_nothing_was_read() -> None:
    facts = [Facts("train", 0, problems=(DataError("first"), DataError("second")))]
    found = summed(facts, split="train", num_classes=3)
    assert (found.images, found.unreadable, found.read, found.channels) == (1, 1, 0, None)
    assert (found.void, found.class_weights(), suggested_crop(found.sizes)) == (0, {}, None)
    table = plain(found, ["a", "b", "c"])
    assert table["unreadable"] == ["first"]
    assert not any(math.isnan(one["share"]) for one in table["classes"].values())


def test_files_and_workers(tmp_path: Path) -> None:
    """Of a folder with a broken mask: the others are counted, by two workers as by none."""
    for kind in ("images", "masks"):
        (tmp_path / kind / "train").mkdir(parents=True)
    (tmp_path / "classes.yaml").write_text("classes: [a, b, c]\nignore: [255]\n")
    masks, images = [], []
    for number in range(7):
        image = RNG.integers(0, 256, (20 + number, 30, 3), np.uint8)
        mask = RNG.choice(np.array([0, 1, 255], np.uint8), image.shape[:2])
        Image.fromarray(image).save(tmp_path / "images" / "train" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / "train" / f"{number}.png")
        masks.append(mask)
        images.append(image)
    (tmp_path / "masks" / "train" / "3.png").write_bytes(b"not an image")
    del masks[3], images[3]
    samples = opened_split(Folder, split="train", root=str(tmp_path))
    for workers in (0, 2):
        found = summed(scan([samples], workers=workers), split="train", num_classes=3)
        assert (found.images, found.unreadable, found.read) == (7, 1, 6)
        assert found.pixels.tolist() == [
            sum(int((one == value).sum()) for one in masks) for value in (0, 1, 2, 255)
        ]
        assert found.around.tolist() == [sum(int((one != 255).sum()) for one in masks)] * 2 + [0]
        assert found.class_weights()["enet"][2] == 1
        assert found.channels is not None
        red = np.concatenate([one[..., 0].ravel() for one in images])
        assert found.channels.mean[0] == pytest.approx(red.mean(), rel=1e-12)
