import threading
import time
from collections.abc import Iterator

import pytest

from deeplabx.process.pipeline import Behind, ahead


def test_what_is_made_ahead_comes_in_order() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    found = ahead(slow_first, range(20), threads=4, depth=8)
    assert [(item, future.result()) for item, future in found] == [(item, item**2) for item in range(20)]


def test_only_depth_are_made_ahead() -> None:
    made: list[int] = []
    found = ahead(made.append, range(100), threads=1, depth=3)
    next(found)[1].result()
    found.close()  # type: ignore[attr-defined]
    assert made == list(range(len(made)))
    assert len(made) <= 3


def test_what_is_made_ahead_holds_no_more_than_the_bytes_allowed() -> None:
    taken: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for item, _ in ahead(str, counted(), threads=1, depth=10, size=lambda made: 100, most=300):
        assert len(taken) - item <= 4  # from the first on, when no size was known


def test_an_error_comes_where_the_result_is_used() -> None:
    found = ahead(lambda item: 1 // item, [1, 0, 2], threads=2, depth=3)
    assert next(found)[1].result() == 1
    with pytest.raises(ZeroDivisionError):
        next(found)[1].result()
    assert next(found)[1].result() == 0


def test_what_is_written_behind_is_all_written() -> None:
    written: list[int] = []
    with Behind(threads=2, depth=3) as behind:
        for number in range(20):
            behind(written.append, number)
    assert sorted(written) == list(range(20))


def test_no_more_than_depth_wait_to_be_written() -> None:
    running = threading.Semaphore(0)
    with Behind(threads=1, depth=2) as behind:
        behind(running.acquire)
        behind(running.acquire)
        threading.Timer(0.05, running.release, [2]).start()
        began = time.monotonic()
        behind(lambda: None)  # waits for the first
        assert time.monotonic() - began > 0.02


def test_what_waits_to_be_written_holds_no_more_than_the_bytes_allowed() -> None:
    waits: list[int] = []
    with Behind(threads=1, depth=8, most=300) as behind:
        for size in (100, 200, 900, 100):
            behind(time.sleep, 0.005, size=size)
            waits.append(behind.held)
    assert waits == [100, 300, 900, 100]


def test_an_error_of_a_writer_stops_the_work() -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    given: list[int] = []

    def write_many() -> None:
        with Behind(threads=1, depth=4) as behind:
            for number in range(1000):
                given.append(number)
                behind(full, number)

    with pytest.raises(OSError, match="No space left"):
        write_many()
    assert len(given) < 1000  # it did not come only at the end


def test_the_last_error_of_a_writer_is_not_lost() -> None:
    with pytest.raises(ZeroDivisionError), Behind(threads=1, depth=4) as behind:
        behind(lambda: 1 // 0)
