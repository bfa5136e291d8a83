"""Whether the batches in flight fit, in the numbers of VOC's defaults: crop 513, batch 16."""

import numpy as np
import pytest
import torch

from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import ResourceError
from deeplabx.process.memory import Free
from deeplabx.run import loading
from deeplabx.run.build import dataset_of
from deeplabx.run.loading import (
    Needs,
    automatic,
    loading_of,
    needs_of,
    reader_of,
    refuse_too_large,
    transport,
    what_fits,
)
from tests.conftest import compose_plain

CPU = torch.device("cpu")
MIB, GIB = 2**20, 2**30
VOC = Needs(batch=16 * 513**2 * 4, image=500 * 375 * 4, processes=1)


def shared(free: int, total: int | None = None) -> Free:
    return Free(free, total or free, "/dev/shm")


def test_what_fits_goes_through_shared_memory_without_a_word() -> None:
    assert transport(VOC, 2, shared(2 * GIB)) == (True, [])
    assert transport(VOC, 2, None) == (True, [])  # no limit
    assert transport(VOC, 0, shared(0)) == (True, [])  # no workers


def test_what_does_not_fit_goes_through_pipes_and_says_so() -> None:
    fits, words = transport(VOC, 2, shared(64 * MIB))
    assert not fits
    assert words == [
        "/dev/shm: 64 MiB free of 64 MiB, the batches in flight need 113 MiB: workers send them through "
        "pipes instead, which is slower; docker run --shm-size=113m avoids it"
    ]


def test_the_words_name_the_number_of_workers_that_fits() -> None:
    _, (words,) = transport(VOC, 8, shared(200 * MIB))
    assert ", or trainer.workers=4, avoids it" in words
    assert transport(VOC, 4, shared(200 * MIB))[0]


def test_the_size_to_ask_for_counts_what_others_use() -> None:
    _, (words,) = transport(VOC, 2, shared(10 * MIB, 64 * MIB))
    assert "docker run --shm-size=167m" in words


def test_processes_of_one_machine_share_it() -> None:
    assert transport(VOC, 2, shared(200 * MIB))[0]
    assert not transport(Needs(VOC.batch, VOC.image, 2), 2, shared(200 * MIB))[0]


@pytest.mark.parametrize(
    ("cores", "device", "workers"),
    [
        *((1.0, "cuda", 1), (1.5, "cuda", 1), (2.0, "cuda", 1), (4.5, "cuda", 3), (16.0, "cuda", 15)),
        *((17.0, "cuda", 16), (128.0, "cuda", 16)),
        *((0.5, "cpu", 1), (1.0, "cpu", 1), (2.0, "cpu", 2), (64.0, "cpu", 2)),
    ],
)
def test_auto_leaves_a_core_to_a_gpus_process(cores: float, device: str, workers: int) -> None:
    assert automatic(cores, torch.device(device))[0] == workers


def test_auto_takes_fewer_workers_where_memory_is_small() -> None:
    plenty = Free(100 * GIB, 100 * GIB, "this machine")
    assert what_fits(VOC, 15, "why", memory=plenty, shared=shared(8 * GIB)) == (15, "why")
    assert what_fits(VOC, 15, "why", memory=None, shared=None) == (15, "why")
    tight = Free(GIB, 4 * GIB, "this machine")
    found, why = what_fits(VOC, 15, "why", memory=tight, shared=None)
    assert VOC.in_all(found) <= GIB / 2 < VOC.in_all(found + 1)
    assert why == "15 would take too much memory: 1.0 GiB of 4.0 GiB are free (this machine)"
    assert what_fits(VOC, 15, "why", memory=Free(MIB, GIB, "this machine"), shared=None)[0] == 0


def test_auto_takes_what_shared_memory_holds_unless_that_is_far_less() -> None:
    found, why = what_fits(VOC, 15, "why", memory=None, shared=shared(400 * MIB))
    assert VOC.in_flight(found) < 400 * MIB < VOC.in_flight(found + 1)
    assert why == "15 would need more than /dev/shm has: 400 MiB of 400 MiB are free (/dev/shm)"
    assert what_fits(VOC, 15, "why", memory=None, shared=shared(64 * MIB)) == (15, "why")  # through pipes


def test_what_auto_chose_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_plain("augment.crop_size=65", "trainer.workers=auto")
    monkeypatch.setattr(loading, "share_of_cores", lambda: 8.0)
    training = dataset_of(config.dataset, split="train")
    found = loading_of(config, training, device=torch.device("cuda"))
    assert (found.workers, found.cores) == (7, 8.0)
    assert found.words == ["trainer.workers=auto: 7; 8 cores, one is left for training"]
    assert loading_of(compose_plain("trainer.workers=3"), training, device=CPU).words == []


# --- evaluation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "device", "workers", "expected"),
    [
        *((500, "cuda", 4, 4), (500, "cuda", 15, loading.TO_EVALUATE), (500, "cuda", 0, 0)),
        *((500, "cpu", 4, 0), (20, "cuda", 4, 0)),
    ],
)
def test_an_evaluation_on_a_gpu_reads_with_processes_where_they_pay(
    images: int, device: str, workers: int, expected: int
) -> None:
    reader = reader_of(ReadableSet(Large(images)), workers=workers, device=torch.device(device))
    assert reader.workers == expected


class Large(SegmentationSet):
    classes, palette = ["a"], [(0, 0, 0)]

    def __init__(self, images: int) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.zeros((375, 500, 3), np.uint8), np.zeros((375, 500), np.uint8))


def test_images_that_are_sent_fit_into_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with its label has 0.72 MiB; four workers hold up to ten, and decode four more."""

    def limit(*, memory: int, shm: int) -> tuple[int, bool]:
        monkeypatch.setattr(loading, "free_memory", lambda: Free(memory, memory, "this machine"))
        monkeypatch.setattr(loading, "free_shared_memory", lambda: shared(shm))
        reader = reader_of(ReadableSet(Large(500)), workers=4, device=torch.device("cuda"))
        return reader.most_bytes, reader.shared_memory

    assert limit(memory=100 * GIB, shm=8 * GIB) == (64 * MIB, True)
    assert limit(memory=880 * MIB, shm=8 * GIB) == (10 * MIB, True)
    assert limit(memory=100 * GIB, shm=64 * MIB) == (int(3.2 * MIB), True)
    assert limit(memory=100 * GIB, shm=16 * MIB) == (64 * MIB, False)


def test_memory_that_does_not_suffice_is_refused_with_what_to_set() -> None:
    free = Free(GIB, 2 * GIB, "the limit of this container or job")
    refuse_too_large(VOC, 8, free, size=513)
    with pytest.raises(ResourceError) as refused:
        refuse_too_large(VOC, 32, free, size=513)
    assert refused.value.message == (
        "the batches of 513 x 513 pixels that 32 loader workers read ahead need 1.6 GiB of memory, but 1.0 "
        "GiB of 2.0 GiB are free (the limit of this container or job)"
    )
    assert refused.value.hint == (
        "set trainer.workers=19, or a smaller augment.crop_size or trainer.batch_size"
    )
    refuse_too_large(VOC, 19, free, size=513)
    with pytest.raises(ResourceError, match=r"\nset a smaller augment.crop_size or trainer.batch_size$"):
        refuse_too_large(VOC, 2, Free(MIB, GIB, "this machine"), size=513)
    refuse_too_large(VOC, 32, None, size=513)  # not known


def test_large_images_count_for_each_worker() -> None:
    aerial = Needs(batch=4 * 513**2 * 4, image=20_000**2 * 4, processes=1)
    with pytest.raises(ResourceError, match=r"set trainer.workers=3,"):
        refuse_too_large(aerial, 8, Free(16 * GIB, 16 * GIB, "this machine"), size=513)


def test_the_needs_of_a_run_are_those_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_plain("trainer.batch_size=6", "augment.crop_size=65", "trainer.workers=2")
    training = dataset_of(config.dataset, split="train")
    height, width = training.label(0).shape
    assert needs_of(config, training) == Needs(6 * 65 * 65 * 4, height * width * 4, 1)
    config.augment.mix = "cutmix"
    assert needs_of(config, training).mixed == 6 * 65 * 65 * 4
    monkeypatch.setattr(loading, "free_shared_memory", lambda: shared(MIB // 4))
    assert not loading_of(config, training, device=CPU).shared_memory
    monkeypatch.setattr(loading, "free_addresses", lambda: Free(1000, MIB, "the limit set by ulimit -v"))
    with pytest.raises(ResourceError, match=r"\(the limit set by ulimit -v\)"):
        loading_of(config, training, device=CPU)
