"""Seconds per training step under several settings of how OpenMP's threads wait for each other: alone, and
beside as many busy processes as there are cores. The settings alternate, each in its own process.

python -m benchmarks.busy_cpu [rounds]
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time

from benchmarks.states import random_batch, state_of
from deeplabx.process.distributed import cores
from deeplabx.process.threads import OF_THE_USER, SPINS

ROUNDS, STEPS, WARM_UP = 5, 9, 2
LONGEST = 20.0  # seconds of a measurement: beside busy processes a step may take that long
BATCH, CROP, CLASSES = 8, 129, 7  # about those of a first run without settings
WAITS = {  # environment variables of libgomp
    "libgomp's own": {},
    "of deeplabx": dict([SPINS]),
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "10000 spins": {"GOMP_SPINCOUNT": "10000"},
}


def main(rounds: int) -> None:
    seconds: dict[tuple[str, int], list[float]] = {(way, busy): [] for busy in (0, cores()) for way in WAITS}
    for _ in range(rounds):
        for (way, busy), measured in seconds.items():
            measured.append(beside(busy, WAITS[way]))
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{cores()} cores, {rounds} rounds, load at the end {load}; seconds per step, median (all)")
    for busy in (0, cores()):
        print("alone" if not busy else f"beside {busy} busy processes")
        own = seconds["libgomp's own", busy]
        for way in WAITS:
            measured = seconds[way, busy]
            ratio = statistics.median(one / other for one, other in zip(measured, own, strict=True))
            every = ", ".join(f"{one:.3f}" for one in measured)
            print(f"  {way:<14} {statistics.median(measured):.3f}  {ratio:.2f} x libgomp's own   ({every})")


def beside(busy: int, waiting: dict[str, str]) -> float:
    """The seconds of a step in a new process, while `busy` others compute."""
    others = [multiprocessing.Process(target=compute, daemon=True) for _ in range(busy)]
    for one in others:
        one.start()
    try:
        set_here = ("OMP_NUM_THREADS", *OF_THE_USER)
        known = {name: value for name, value in os.environ.items() if name not in set_here}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.busy_cpu", "step"],
            env={**known, **waiting},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    finally:
        for one in others:
            one.kill()
            one.join()
    return float(done.stdout)


def compute() -> None:
    while True:
        pass


def step_seconds() -> float:
    """The median step of DeepLabv3+ on MobileNetV2, float32, on all threads; of those that LONGEST allows."""
    state = state_of("deeplabv3plus", backbone="mobilenetv2", num_classes=CLASSES)
    images, labels = random_batch(BATCH, crop=CROP, num_classes=CLASSES)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < STEPS + WARM_UP and time.perf_counter() - began < LONGEST:
        started = time.perf_counter()
        state.update(images, labels)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:] or times)


if __name__ == "__main__":
    argument = sys.argv[1] if len(sys.argv) > 1 else str(ROUNDS)
    if argument == "step":
        print(step_seconds())
    else:
        main(int(argument))
