"""What keeping freed memory is worth: seconds of a training step with and without it, in turns, each turn a
process of its own.

python -m benchmarks.freed_memory
"""

import statistics
import subprocess
import sys
import time

import torch

import deeplabx
from deeplabx.process.memory import keep_freed_memory
from deeplabx.engine.state import TrainState
from deeplabx.loss import build_loss
from deeplabx.optimizer import build_optimizer
from deeplabx.schedule import build_schedule

ROUNDS, STEPS, WARM_UP = 3, 5, 2
BATCH, CROP, CLASSES = 8, 353, 11  # of CamVid's recipes


def main() -> None:
    seconds: dict[str, list[float]] = {"given back": [], "kept": []}
    for _ in range(ROUNDS):
        for way, measured in seconds.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.freed_memory", way],
                capture_output=True,
                text=True,
                check=True,
            )
            measured.append(float(done.stdout))
    medians = {way: statistics.median(measured) for way, measured in seconds.items()}
    for way, median in medians.items():
        print(f"{way:<11} {median:.2f} s a step   ({', '.join(f'{one:.2f}' for one in seconds[way])})")
    print(f"kept / given back: {medians['kept'] / medians['given back']:.2f}")


def step_seconds() -> float:
    """The median step of DeepLabv3+ on MobileNetV2, float32, on all threads."""
    model = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=CLASSES)
    state = TrainState(
        model,
        build_optimizer("sgd", model, lr=0.01, weight_decay=1e-4, momentum=0.9),
        loss_sum=build_loss("cross_entropy"),
        schedule=build_schedule("poly", max_iters=100, warmup_iters=0, power=0.9),
        max_iters=100,
        normalization=model.backbone.normalization,
        ignore_index=255,
        device=torch.device("cpu"),
    )
    images = torch.randint(0, 256, (BATCH, CROP, CROP, 3), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (BATCH, CROP, CROP), dtype=torch.uint8)
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
