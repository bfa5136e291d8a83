import os
import signal
import sys
import time
from unittest import mock

import pytest

from deeplabx.errors import PreemptedError
from deeplabx.process.signals import Forwarding, StopRequest, end_with_parent, ended_by_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_only_sets_the_flag_and_handlers_come_back(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeplabx.process.signals.discard_terminal", lambda: None)  # pytest's own
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.number is None
        os.kill(os.getpid(), number)
        assert stop.number == number
    assert signal.getsignal(number) is before


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_stops_at_once() -> None:
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


class Told(Forwarding):
    """Notes what would be sent to the processes."""

    def __init__(self) -> None:
        super().__init__(every=0.01)
        self.told: list[int | None] = []

    def forward(self) -> None:
        self.told.append(self.number)


def test_a_process_that_was_only_starting_is_told_again() -> None:
    with Told() as asked:
        time.sleep(0.05)
        assert asked.told == []
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while len(asked.told) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert set(asked.told) == {signal.SIGTERM}
    assert len(asked.told) >= 3
    assert isinstance(asked.error("x"), PreemptedError)
    time.sleep(0.02)
    count = len(asked.told)
    time.sleep(0.05)
    assert len(asked.told) == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_work_without_a_state_ends_wherever_it_is(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    @ended_by_signals("stopped")
    def work() -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    with pytest.raises(PreemptedError, match=rf"^{number.name} received: stopped$"):
        work()
    assert signal.getsignal(number) is before


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
@pytest.mark.parametrize("alive", [True, False])
def test_a_process_whose_parent_died_while_it_started_ends(
    monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("ctypes.CDLL", mock.Mock())
    monkeypatch.setattr("multiprocessing.parent_process", lambda: mock.Mock(is_alive=lambda: alive))
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    end_with_parent()
    assert sent == ([] if alive else [signal.SIGKILL])
