from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from deeplabx.augment.mix import REGIONS, Mix
from deeplabx.augment.standard import StandardAugment
from deeplabx.config.schema import AugmentSettings
from deeplabx.dataset.class_balance import classes_shown
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.loader import Address, BatchAddresses, ClassSampling, training_batches
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError
from deeplabx.run import class_sampling

# Class 2 is rare, class 3 is in no image.
SAMPLING = ClassSampling(0.3, [np.arange(10), np.array([1, 4, 5]), np.array([7]), np.array([], int)])


class Rare(SegmentationSet):
    """Ten images of 60 x 80; class 2 is four pixels of number 7 alone."""

    classes, palette = ["a", "b", "c", "d"], [(0, 0, 0)] * 4

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        label = np.zeros((60, 80), np.uint8)
        if index in (1, 4, 5):
            label[10:40, 5:50] = 1
        if index == 7:
            label[50:52, 70:72] = 2
        label[0, 0] = 255
        image = np.random.default_rng(index).integers(0, 256, (60, 80, 3), np.uint8)
        return Sample(image, label)


def addresses(share: float, **others: Any) -> list[list[Address]]:
    given = {"batch_size": 4, "seed": 3, "first_step": 0, "last_step": 500, **others}
    return list(BatchAddresses(10, sampling=SAMPLING._replace(share=share), **given))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 1.0])
def test_the_share_is_drawn_by_class_and_the_rest_is_the_shuffled_epochs_without_a_gap(share: float) -> None:
    found = [address for batch in addresses(share) for address in batch]
    drawn = [address for address in found if address.wanted is not None]
    assert len(found) == 2000
    assert len(drawn) == round(2000 * share)
    rest = [address for address in found if address.wanted is None]
    plain = [address for batch in BatchAddresses(10, batch_size=4, seed=3, first_step=0, last_step=500)
             for address in batch]  # fmt: skip
    assert rest == plain[: len(rest)]


def test_each_class_that_is_there_is_equally_likely_then_each_of_its_images() -> None:
    drawn = [address for batch in addresses(1.0) for address in batch]
    wanted = Counter(address.wanted for address in drawn)
    assert set(wanted) == {0, 1, 2}
    assert stats.chisquare(list(wanted.values())).pvalue > 1e-3
    images = Counter(address.image for address in drawn if address.wanted == 0)
    assert stats.chisquare([images[index] for index in range(10)]).pvalue > 1e-3
    assert {address.image for address in drawn if address.wanted == 2} == {7}
    assert len({tuple(address.key) for address in drawn}) == len(drawn)  # so are their random numbers


def test_a_resumed_stream_is_the_tail_and_processes_share_the_batch() -> None:
    whole = addresses(0.4, batch_size=6)
    assert addresses(0.4, batch_size=6, first_step=137) == whole[137:]
    ranks = [addresses(0.4, batch_size=6, rank=rank, world_size=3) for rank in range(3)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert Counter(batch) == Counter(address for part in parts for address in part)
    # No process has them all: their places in the batch are random.
    shares = [np.mean([one.wanted is not None for batch in rank for one in batch]) for rank in ranks]
    assert max(shares) - min(shares) < 0.1


@pytest.mark.parametrize("workers", [0, 2])
def test_the_images_of_a_class_are_those_whose_label_shows_it(workers: int) -> None:
    table = classes_shown(ReadableSet(Rare()), range(10), workers=workers)
    expected = [[(Rare()[index].label == one).any() for one in range(4)] for index in range(10)]
    assert table.tolist() == expected
    assert classes_shown(ReadableSet(Rare()), [], workers=0).shape == (0, 4)


def test_a_label_that_cannot_be_read_is_an_error_or_shows_nothing() -> None:
    class Broken(Rare):
        def __getitem__(self, index: int) -> Sample:
            if index == 4:
                raise DataError("four.png: damaged")
            return super().__getitem__(index)

    with pytest.raises(DataError, match="four"):
        classes_shown(ReadableSet(Broken()), range(10), workers=0)
    assert not classes_shown(ReadableSet(Broken(), skip_unreadable=True), range(10), workers=0)[4].any()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_reading_of_labels(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = ReadableSet(Rare())
    parts = [classes_shown(samples, range(10)[rank::world_size], workers=0) for rank in range(world_size)]
    monkeypatch.setattr(class_sampling, "world_size", lambda: world_size)
    monkeypatch.setattr(class_sampling, "own_share", lambda items: items[::world_size])
    monkeypatch.setattr(class_sampling, "gathered", lambda items: [items[0], *parts[1:]])
    config = AugmentSettings(name="any", class_sampling=0.3)
    found = class_sampling.class_sampling_of(config, samples, workers=0)
    assert found is not None
    expected = [list(images) for images in (range(10), (1, 4, 5), (7,), ())]
    assert [images.tolist() for images in found.images] == expected
    assert class_sampling.class_sampling_of(AugmentSettings(name="any"), samples, workers=0) is None


def test_labels_without_a_class_are_an_error() -> None:
    class Void(Rare):
        def __getitem__(self, index: int) -> Sample:
            image, label = super().__getitem__(index)
            return Sample(image, np.full_like(label, 255))

    config = AugmentSettings(name="any", class_sampling=0.3)
    with pytest.raises(DataError, match="show no class"):
        class_sampling.class_sampling_of(config, ReadableSet(Void()), workers=0)


def batches(*, workers: int, first_step: int = 0, **others: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    augment = StandardAugment(
        crop_size=17,
        scale_min=0.5,
        scale_max=2.0,
        flip=0.5,
        pad_pixel=(1, 2, 3),
        ignore_index=255,
        rotation=10,
        noise=0.5,
        noise_std=5,
        cat_max_ratio=0.8,
    )
    given: dict[str, Any] = {
        "batch_size": 4,
        "last_step": 9,
        "sampling": SAMPLING,
        "mix": Mix(REGIONS["classmix"], p=0.5, ignore_index=255),
        **others,
    }
    found = training_batches(
        ReadableSet(Rare()),
        augment,
        seed=5,
        first_step=first_step,
        workers=workers,
        pin_memory=False,
        **given,
    )
    return [(batch.images, batch.labels) for batch in found if batch is not None]


def test_mix_and_sampling_depend_neither_on_workers_nor_on_where_a_run_was_resumed() -> None:
    whole = batches(workers=0)
    for other in (batches(workers=2), batches(workers=1), [*whole[:4], *batches(workers=0, first_step=4)]):
        assert all(
            torch.equal(one, two)
            for pair, other_pair in zip(whole, other, strict=True)
            for one, two in zip(pair, other_pair, strict=True)
        )
    unmixed = batches(workers=0, mix=None)
    changed = [not torch.equal(one[0], two[0]) for one, two in zip(whole, unmixed, strict=True)]
    assert sum(changed) > 4


def test_a_sample_drawn_for_a_class_shows_it() -> None:
    labels = torch.stack(
        [
            label
            for _, label in batches(workers=0, last_step=40, mix=None, sampling=SAMPLING._replace(share=1.0))
        ]
    )
    by_class = [int((labels == one).any(-1).any(-1).sum()) for one in range(3)]
    assert by_class[2] > 0.25 * 160  # of four pixels in one of ten images; a rotated crop may miss them


def test_an_augmentation_without_around_is_called() -> None:
    def corner(
        image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return image[:9, :9], label[:9, :9]

    given: dict[str, Any] = {"batch_size": 2, "seed": 0, "first_step": 0, "last_step": 3, "workers": 0}
    sampling = SAMPLING._replace(share=1.0)
    found = list(training_batches(ReadableSet(Rare()), corner, pin_memory=False, sampling=sampling, **given))
    assert [batch.labels.shape for batch in found if batch is not None] == [(2, 9, 9)] * 3
