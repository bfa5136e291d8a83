from collections import Counter

import numpy as np
import pytest
import torch

from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.loader import BatchAddresses, training_batches
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError


class Numbers(SegmentationSet):
    """Ten images that hold their own index."""

    classes, palette = ["a"], [(0, 0, 0)]

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.full((2, 2, 3), index, np.uint8), np.zeros((2, 2), np.uint8))


class OneIsBroken(Numbers):
    def __getitem__(self, index: int) -> Sample:
        if index == 3:
            raise DataError("three.png: damaged")
        return super().__getitem__(index)


def noisy(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return image, rng.integers(0, 200, label.shape, dtype=np.uint8)


def batches(
    samples: Numbers, *, first_step: int = 0, last_step: int = 7, workers: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    found = training_batches(
        ReadableSet(samples),
        noisy,
        batch_size=4,
        seed=5,
        first_step=first_step,
        last_step=last_step,
        workers=workers,
        pin_memory=False,
    )
    return [(batch.images, batch.labels) for batch in found if batch is not None]


def test_every_epoch_is_a_permutation_and_no_image_is_left_out() -> None:
    addresses = [
        address
        for batch in BatchAddresses(10, batch_size=4, seed=0, first_step=0, last_step=5)
        for address in batch
    ]
    assert [address.epoch for address in addresses] == [0] * 10 + [1] * 10
    orders = [[address.image for address in addresses[start : start + 10]] for start in (0, 10)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1]


def test_a_data_set_smaller_than_the_batch_is_seen_evenly() -> None:
    batch = next(iter(BatchAddresses(3, batch_size=9, seed=0, first_step=0, last_step=1)))
    assert set(Counter(address.image for address in batch).values()) == {3}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    for (images, labels), (other_images, other_labels) in zip(
        batches(Numbers()), batches(Numbers(), workers=workers), strict=True
    ):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_a_resumed_stream_is_the_tail_of_the_whole() -> None:
    whole, tail = batches(Numbers()), batches(Numbers(), first_step=3)
    assert len(tail) == 4
    assert all(
        torch.equal(a[1], b[1]) and torch.equal(a[0], b[0]) for a, b in zip(whole[3:], tail, strict=True)
    )


def test_one_image_is_augmented_anew_in_each_epoch() -> None:
    noise: dict[int, list[torch.Tensor]] = {}
    for images, labels in batches(Numbers(), last_step=5):
        for image, label in zip(images, labels, strict=True):
            noise.setdefault(int(image[0, 0, 0]), []).append(label)
    assert all(not torch.equal(first, second) for first, second in noise.values())


def test_the_loader_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(Numbers(), workers=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_is_one_error_of_ours_from_any_worker(workers: int) -> None:
    with pytest.raises(DataError, match=r"^three.png: damaged$"):
        batches(OneIsBroken(), workers=workers)
