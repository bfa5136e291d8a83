import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing

import pytest

from deeplabx.dataset import arrivals as module
from deeplabx.dataset.arrivals import arrivals
from deeplabx.errors import DataError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.02)
    monkeypatch.setattr(module, "PATIENCE", 0.2)


@pytest.fixture
def stall() -> Iterator[threading.Event]:
    """What a stalled reader waits for."""
    event = threading.Event()
    yield event
    event.set()


def read(number: int, *, log: list[int], stall: threading.Event | None = None) -> Generator[int]:
    for index in range(1, number + 1):
        log.append(index)
        if stall is not None and index == 3:
            stall.wait()
        yield index


@pytest.mark.parametrize("ahead", [0, 1, 3, 9])
def test_the_items_come_in_their_order(ahead: int) -> None:
    items = arrivals(read(5, log=[]), ahead=ahead, what="item")
    assert [item for item in items if item is not None] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_no_more_is_read_ahead_than_asked_for(ahead: int) -> None:
    log: list[int] = []
    with closing(arrivals(read(9, log=log), ahead=ahead, what="item")) as items:
        assert next(item for item in items if item is not None) == 1
        time.sleep(0.1)
        assert log == list(range(1, ahead + 2))


def test_an_item_that_does_not_arrive_lets_the_caller_act_and_is_still_delivered(
    stall: threading.Event,
) -> None:
    found: list[int | None] = []
    for item in arrivals(read(4, log=[], stall=stall), ahead=0, what="item"):
        found.append(item)
        if found[-2:] == [None, None]:
            stall.set()
    assert found[:4] == [1, 2, None, None]
    assert [item for item in found if item is not None] == [1, 2, 3, 4]


def test_one_that_never_arrives_is_an_error_in_words(stall: threading.Event) -> None:
    with pytest.raises(DataError, match=r"^no item was read in 0 s: .*\ndoes the disk of dataset.root"):
        list(arrivals(read(4, log=[], stall=stall), ahead=1, what="item"))


def test_a_job_that_was_suspended_has_not_waited(
    stall: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.04)
    items = arrivals(read(4, log=[], stall=stall), ahead=0, what="item")
    assert [next(items) for _ in range(3)] == [1, 2, None]
    time.sleep(0.2)  # much longer than PATIENCE, as after SIGSTOP
    stall.set()
    time.sleep(0.05)
    assert next(items) == 3


def test_an_error_comes_when_its_item_is_asked_for() -> None:
    def broken() -> Generator[int]:
        yield 1
        raise DataError("two.png: damaged")

    items = arrivals(broken(), ahead=5, what="item")
    assert next(items) == 1
    with pytest.raises(DataError, match=r"^two.png: damaged$"):
        next(items)


def test_a_caller_that_leaves_does_not_wait_and_the_items_are_closed() -> None:
    closed = threading.Event()

    def items() -> Generator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    found = arrivals(items(), ahead=0, what="item")
    assert next(found) == 1
    found.close()
    assert closed.wait(2)


def test_a_caller_that_leaves_while_a_read_is_stuck_does_not_wait(stall: threading.Event) -> None:
    found = arrivals(read(4, log=[], stall=stall), ahead=0, what="item")
    assert [next(found) for _ in range(3)] == [1, 2, None]
    begin = time.monotonic()
    found.close()
    assert time.monotonic() - begin < 0.5


def test_the_check_is_made_while_nothing_arrives(stall: threading.Event) -> None:
    def check() -> None:
        raise DataError("the reader is lost")

    with pytest.raises(DataError, match="the reader is lost"):
        list(arrivals(read(4, log=[], stall=stall), ahead=0, what="item", check=check))
