import math
import shutil
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from deeplabx.dataset.class_balance import BALANCES, balanced_weights, count_pixels
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root

COUNTS = torch.tensor([[6_000_000, 300_000, 0, 1_024], [7_000_000, 1_000_000, 0, 500_000]])
WHOLE = 6_301_024


@pytest.mark.parametrize("name", ["shapes", "folder"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_counted_as_a_loop_counts_them(fake_root: Root, name: str, workers: int) -> None:
    sizes = {"train_images": 9, "val_images": 1} if name == "shapes" else {"root": str(fake_root(name))}
    samples = open_dataset(name, split="train", **sizes)
    own, around = ([0] * len(samples.classes) for _ in range(2))
    for index in range(len(samples)):
        values = [value for value in samples[index].label.reshape(-1).tolist() if value != 255]
        for value in values:
            own[value] += 1
        for value in set(values):
            around[value] += len(values)
    assert count_pixels(samples, range(len(samples)), workers=workers).tolist() == [own, around]


def test_shares_add_up_to_the_whole() -> None:
    samples = open_dataset("shapes", split="train", train_images=7, val_images=1)
    shares = [count_pixels(samples, range(7)[rank::3], workers=0) for rank in range(3)]
    assert torch.equal(sum(shares), count_pixels(samples, range(7), workers=0))  # type: ignore[arg-type]


def test_labels_are_counted_without_their_images(fake_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = open_dataset("voc", root=str(fake_root("voc")), split="train")
    expected = samples[0].label
    monkeypatch.setattr("deeplabx.dataset.files.read_pair", lambda *_, **__: pytest.fail("an image was read"))
    assert np.array_equal(samples.label(0), expected)


def test_a_label_that_cannot_be_read_is_an_error_or_passed_over(fake_root: Root, tmp_path: Path) -> None:
    root = Path(shutil.copytree(fake_root("folder"), tmp_path / "own"))
    samples = open_dataset("folder", root=str(root), split="train")
    broken, *others = range(len(samples))
    without = count_pixels(samples, others, workers=0)
    sorted((root / "masks" / "train").iterdir())[0].write_bytes(b"no image")
    with pytest.raises(DataError, match="masks/train"):
        count_pixels(samples, range(len(samples)), workers=0)
    samples.skip_unreadable = True
    assert torch.equal(count_pixels(samples, [broken, *others], workers=0), without)
    assert "masks/train" in samples.take_errors()[0]


def by_hand(name: str, own: int, around: int) -> float:
    """What the papers say of one class, before the weights are put to a mean of 1."""
    if name == "median_frequency":
        return median([6 / 7, 0.3, 1024 / 500_000]) / (own / around)
    if name == "enet":
        return 1 / math.log(1.02 + own / WHOLE)
    return (1 - 0.9999) / (1 - 0.9999 ** (own / 1024))


@pytest.mark.parametrize("name", BALANCES)
def test_weights_are_the_papers_with_a_mean_of_one_over_the_pixels(name: str) -> None:
    weights = balanced_weights(name, COUNTS)
    expected = {place: by_hand(name, int(COUNTS[0, place]), int(COUNTS[1, place])) for place in (0, 1, 3)}
    for place, value in expected.items():
        assert weights[place] / weights[0] == pytest.approx(value / expected[0], rel=1e-4)
    assert weights[2] == 1.0  # no pixel of it is there
    mean = sum(weight * int(pixels) for weight, pixels in zip(weights, COUNTS[0], strict=True)) / WHOLE
    assert mean == pytest.approx(1, rel=1e-5)
    assert weights[0] < weights[1] < weights[3]


def test_of_a_class_with_many_samples_more_of_them_change_little() -> None:
    weights = balanced_weights(
        "effective_number", 1024 * torch.tensor([[1_000_000, 100_000, 100], [1, 1, 1]])
    )
    assert weights[1] / weights[0] == pytest.approx(1, rel=1e-4)
    assert weights[2] / weights[0] == pytest.approx(1e4 / 100, rel=0.01)
