"""Signals: a handler only sets a flag, which the loop reads after each step. A second Ctrl-C stops at once."""

import signal
from types import FrameType, TracebackType

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """`with StopRequest() as stop:` and then `stop.number` is the signal that asked to stop, or None."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> "StopRequest":
        self.before = {number: signal.signal(number, self.note) for number in WATCHED}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number is not None:
            raise KeyboardInterrupt
        self.number = number
