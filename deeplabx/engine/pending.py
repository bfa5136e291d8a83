"""Numbers of a step that the device may still be computing."""

import time

import torch
from torch import Tensor


class Pending:
    """The numbers of one step: float64, on the device. They are copied to the host without waiting.

    seconds: in which the host enqueued the step; reading adds those of waiting for the device. began:
    recorded on the device's stream when the step began; ended_before: of the step before it, if any.
    Both None on a CPU.
    """

    def __init__(
        self,
        values: Tensor,
        *,
        step: int,
        lr: float,
        seconds: float,
        began: torch.cuda.Event | None = None,
        ended_before: torch.cuda.Event | None = None,
    ) -> None:
        self.step, self.lr, self.seconds = step, lr, seconds
        self.values = values.to("cpu", non_blocking=True)
        self.began, self.ended_before = began, ended_before
        self.ended = recorded(values.device)

    def read(self) -> list[float]:
        """The numbers; waits until the device has computed them."""
        start = time.perf_counter()
        if self.ended is not None:
            self.ended.synchronize()
        self.seconds += time.perf_counter() - start
        return [float(value) for value in self.values]

    @property
    def idle(self) -> float | None:
        """Seconds between the end of the step before and the beginning of this one, in which the device had
        no work; None on a CPU, which is its own host, and for the first step. Read the numbers first.
        """
        if self.began is None or self.ended_before is None:
            return None
        return self.ended_before.elapsed_time(self.began) / 1000


def recorded(device: torch.device) -> torch.cuda.Event | None:
    """An event at the end of what a GPU has been given to do; None on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event(enable_timing=True, blocking=True)  # blocking: waiting leaves the core to others
    event.record(torch.cuda.current_stream(device))
    return event
