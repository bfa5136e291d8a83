"""Whether the batches in flight fit, in the numbers of VOC's defaults: crop 513, batch 16."""

import pytest
import torch

from deeplabx.errors import ResourceError
from deeplabx.process.memory import Free
from deeplabx.run import loading
from deeplabx.run.build import dataset_of
from deeplabx.run.loading import Needs, loading_of, needs_of, refuse_too_large, transport
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
    monkeypatch.setattr(loading, "free_shared_memory", lambda: shared(MIB // 4))
    assert not loading_of(config, training, device=CPU).shared_memory
    monkeypatch.setattr(loading, "free_addresses", lambda: Free(1000, MIB, "the limit set by ulimit -v"))
    with pytest.raises(ResourceError, match=r"\(the limit set by ulimit -v\)"):
        loading_of(config, training, device=CPU)
