import weakref
from functools import partial

import numpy as np
import pytest

from deeplabx.process.memory import resident_memory, return_freed_memory
from deeplabx.server import worker as module
from deeplabx.server.worker import Worker, trimmed


def test_calls_are_made_one_after_the_other_and_their_errors_come_back() -> None:
    made: list[int] = []

    def call(number: int) -> float:
        made.append(number)
        return 1 / number

    worker = Worker()
    futures = [worker.submit(partial(call, number)) for number in (2, 4, 0, 1)]
    assert futures[1].cancel()  # before its turn
    worker.start()
    assert futures[3].result(5) == 1
    assert made == [2, 0, 1]
    with pytest.raises(ZeroDivisionError):
        futures[2].result(5)


def test_a_waiting_worker_keeps_nothing_of_the_last_call() -> None:
    worker = Worker()
    worker.start()
    image = np.zeros(10)
    gone = weakref.ref(image)
    worker.submit(partial(np.sum, image)).result(5)
    del image
    worker.submit(list).result(5)  # begins when the last call is forgotten
    assert gone() is None


def test_freed_memory_is_returned_when_much_of_it_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = [1000]
    monkeypatch.setattr(module, "KEPT", 100)
    monkeypatch.setattr(module, "resident_memory", lambda: memory[0])
    monkeypatch.setattr(module, "return_freed_memory", lambda: memory.__setitem__(0, 950))
    assert trimmed(950) == 950
    assert memory == [1000]
    memory[0] = 1050
    assert trimmed(950) == 950
    assert memory == [950]
    assert trimmed(None) is None


def test_what_malloc_keeps_is_returned() -> None:
    """Small pieces below one that is still used: malloc cannot return them by itself."""
    pieces = [bytearray(60_000) for _ in range(1500)]
    last = pieces[-1]
    before = resident_memory()
    if before is None:
        pytest.skip("the system does not say")
    del pieces
    return_freed_memory()
    after = resident_memory()
    assert after is not None
    assert before - after > 60 << 20
    assert len(last) == 60_000
