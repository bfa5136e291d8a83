import os
import signal
import time

import pytest

from deeplabx.errors import PreemptedError
from deeplabx.process.signals import Forwarding, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_only_sets_the_flag_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.number is None
        os.kill(os.getpid(), number)
        assert stop.number == number
    assert signal.getsignal(number) is before


def test_a_second_interrupt_stops_at_once() -> None:
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_was_only_starting_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(Forwarding, "forward", lambda self: told.append(self.number))
    with Forwarding() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2.5)
    assert len(told) >= 3
    assert isinstance(asked.error("x"), PreemptedError)
    count = len(told)
    time.sleep(1.2)
    assert len(told) == count
