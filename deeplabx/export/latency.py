"""How long exported files take beside the model."""

import statistics
import time
from collections.abc import Callable, Mapping

WARM_UP = 2  # runs that are not counted: the first ones allocate
LEAST, MOST = 5, 30  # counted runs of each
SECONDS = 10.0  # after which, from LEAST runs on, no more are made


def medians(variants: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each. They take turns, A B A B: what else the machine does slows all of them."""
    for run in variants.values():
        for _ in range(WARM_UP):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    began = time.perf_counter()
    for number in range(MOST):
        if number >= LEAST and time.perf_counter() - began > SECONDS:
            break
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def table(rows: Mapping[str, tuple[int, float]], *, first: str) -> str:
    """Bytes and seconds of each variant, as text; ratios are to `first`."""
    width = max(map(len, rows))
    base_bytes, base_seconds = rows[first]
    lines = [f"{'':<{width}}  {'MB':>8} {'':>6}  {'ms':>8} {'':>6}"]
    lines += [
        f"{name:<{width}}  {size / 1e6:>8.2f} {size / base_bytes:>5.2f}x  {1000 * time_:>8.1f} "
        f"{time_ / base_seconds:>5.2f}x"
        for name, (size, time_) in rows.items()
    ]
    return "\n".join(lines)
