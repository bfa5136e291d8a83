"""What the server has counted, as Prometheus reads it."""

import threading
from collections import Counter
from itertools import accumulate

from deeplabx.process.memory import resident_memory

BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # seconds


class Histogram:
    """How many durations were at most each of BOUNDS, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[sum(seconds > bound for bound in BOUNDS)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        return self.sum / max(1, self.count)

    def lines(self, name: str, words: str) -> list[str]:
        bounds = [*map(str, BOUNDS), "+Inf"]
        buckets = zip(bounds, accumulate(self.counts), strict=True)
        return [
            *head(name, "histogram", words),
            *(f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in buckets),
            f"{name}_sum {self.sum:.6f}",
            f"{name}_count {self.count}",
        ]


class Metrics:
    """Counts of one server. The event loop and the worker thread both add to them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds = Histogram()  # of answered requests for a prediction
        self.prediction_seconds = Histogram()  # decoding, prediction and encoding
        self.pixels = 0

    def answered(self, path: str, status: int, *, seconds: float | None = None) -> None:
        with self.lock:
            self.requests[path, status] += 1
            if seconds is not None:
                self.seconds.add(seconds)

    def predicted(self, pixels: int, seconds: float) -> None:
        with self.lock:
            self.pixels += pixels
            self.prediction_seconds.add(seconds)

    def text(self, *, accepted: int, queue: int) -> str:
        """All of them. accepted: images that are in the server now."""
        with self.lock:
            lines = [*head("deeplabx_requests_total", "counter", "requests by path and status")]
            for (path, status), count in sorted(self.requests.items()):
                lines.append(f'deeplabx_requests_total{{path="{path}",status="{status}"}} {count}')
            words = "from the first byte of an answered request for a prediction to the last of the answer"
            lines += self.seconds.lines("deeplabx_request_seconds", words)
            words = "decoding an image, predicting and encoding the answer"
            lines += self.prediction_seconds.lines("deeplabx_prediction_seconds", words)
            lines += single("deeplabx_predicted_pixels_total", "counter", "pixels predicted", self.pixels)
        lines += single("deeplabx_queue_length", "gauge", "images accepted and not yet answered", accepted)
        lines += single("deeplabx_queue_limit", "gauge", "images that are accepted at a time", queue)
        memory = resident_memory()
        if memory is not None:
            words = "memory of this process in bytes"
            lines += single("process_resident_memory_bytes", "gauge", words, memory)
        return "\n".join([*lines, ""])


def head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def single(name: str, kind: str, words: str, value: int) -> list[str]:
    return [*head(name, kind, words), f"{name} {value}"]
