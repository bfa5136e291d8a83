"""Signals: a handler only sets a flag, which the loop reads each step. A second Ctrl-C stops immediately."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

from deeplabx.errors import PreemptedError, StoppedError
from deeplabx.process.terminal import discard_terminal

# SIGHUP comes when a terminal or an ssh connection closes.
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


class StopRequest:
    """`with StopRequest() as stop:` and then `stop.number` is the first signal that asked to stop, or
    None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.interrupts = 0

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()  # only it can handle signals
        self.before = {
            number: signal.signal(number, self.note) for number in WATCHED if main and not is_by_nohup(number)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 1:
            raise KeyboardInterrupt
        if self.number is None:
            self.number = number
        if number == signal.SIGHUP:
            discard_terminal()


class Forwarding(StopRequest):
    """The same in the parent of several processes: forwards TERM and USR1 to them, and the first Ctrl-C as
    TERM.

    A terminal sends Ctrl-C to the processes as well; forwarded unchanged, it would count as their second.
    every: seconds between repeats of the signal, because a process may still be starting.
    """

    def __init__(self, *, every: float = 1.0) -> None:
        super().__init__()
        self.every = every

    def __enter__(self) -> Self:
        self.over = threading.Event()
        threading.Thread(target=self.repeat, daemon=True).start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        super().__exit__(kind, error, trace)

    def note(self, number: int, frame: FrameType | None) -> None:
        super().note(number, frame)
        self.forward()

    def forward(self) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGUSR1 if self.number == signal.SIGUSR1 else signal.SIGTERM)

    def repeat(self) -> None:
        while not self.over.wait(self.every):
            if self.number is not None:
                self.forward()

    def error(self, message: str) -> StoppedError | PreemptedError:
        """The error to raise for a run that the signal stopped."""
        return stopped(self.number or signal.SIGTERM, message)


def is_by_nohup(number: int) -> bool:
    """Whether nohup made this process ignore the end of its terminal."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def stopped(number: int, message: str) -> StoppedError | PreemptedError:
    return StoppedError(message) if number == signal.SIGINT else PreemptedError(message)


@contextmanager
def ended_by_signals(words: str) -> Iterator[None]:
    """TERM and USR1 end the block wherever it is: they raise PreemptedError with these words. For work that
    has nothing to save; Ctrl-C raises KeyboardInterrupt as always.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise PreemptedError(f"{signal.Signals(number).name} received: {words}")

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGUSR1) if main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals(worker: int) -> None:
    """In a loader worker, ignore the signals that the main process handles (otherwise the worker would die
    first and the save would fail), and exit when the main process does. `worker`: its number, passed by the
    loader.
    """
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, for any reason. Linux only; elsewhere the
    launcher must clean up.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():  # it died while this process was starting
            signal.raise_signal(signal.SIGKILL)
