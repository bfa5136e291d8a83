"""The effect of keeping freed memory: seconds per training step with and without it, alternating, each in
its own process.

python -m benchmarks.freed_memory
"""

import statistics
import subprocess
import sys
import time

from benchmarks.states import random_batch, state_of
from deeplabx.process.memory import keep_freed_memory

ROUNDS, STEPS, WARM_UP = 3, 5, 2
BATCH, CROP, CLASSES = 8, 353, 11  # of CamVid's recipes


def main() -> None:
    seconds: dict[str, list[float]] = {"returned": [], "kept": []}
    for _ in range(ROUNDS):
        for way, measured in seconds.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.freed_memory", way],
                capture_output=True,
                encoding="utf-8",
                check=True,
            )
            measured.append(float(done.stdout))
    medians = {way: statistics.median(measured) for way, measured in seconds.items()}
    for way, median in medians.items():
        print(f"{way:<11} {median:.2f} s per step   ({', '.join(f'{one:.2f}' for one in seconds[way])})")
    print(f"kept / returned: {medians['kept'] / medians['returned']:.2f}")


def step_seconds() -> float:
    """The median step of DeepLabv3+ on MobileNetV2, float32, on all threads."""
    state = state_of("deeplabv3plus", backbone="mobilenetv2", num_classes=CLASSES)
    images, labels = random_batch(BATCH, crop=CROP, num_classes=CLASSES)
    times = []
    for _ in range(STEPS + WARM_UP):
        started = time.perf_counter()
        state.update(images, labels)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        if sys.argv[1] == "kept":
            keep_freed_memory()
        print(step_seconds())
