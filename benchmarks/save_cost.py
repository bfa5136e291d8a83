"""The cost of saving: the seconds of a save compared with those of the steps between two saves. A save writes
safetensors, their sha256 and JSON, and waits until they are on the disk.

python -m benchmarks.save_cost
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.states import random_batch, state_of
from deeplabx.engine import checkpoint as checkpoints

SAVE_EVERY = 100  # steps; the default is 200
CROP, CLASSES = 65, 21


def main() -> None:
    print(cost("deeplabv3plus", backbone="mobilenetv2", size=8, times=15))  # the default run
    print(cost("deeplabv3", backbone="resnet101", size=2, times=3))


def cost(model: str, *, backbone: str, size: int, times: int) -> str:
    state = state_of(model, backbone=backbone, num_classes=CLASSES)
    batch = random_batch(size, crop=CROP, num_classes=CLASSES)
    state.update(*batch)  # from now on there is momentum to save
    step = seconds(partial(state.update, *batch), times)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        save = seconds(partial(checkpoints.keep, state, folder, description={}), times)
        megabytes = sum(path.stat().st_size for path in max(folder.glob("step-*")).iterdir()) / 1e6
    return (
        f"{model} on {backbone}, batch {size} of {CROP} x {CROP}: step {step * 1000:.0f} ms, save "
        f"{save * 1000:.0f} ms for {megabytes:.0f} MB ({megabytes / save:.0f} MB/s); every "
        f"{SAVE_EVERY} steps, this costs {save / (SAVE_EVERY * step):.2%} of the training time"
    )


def seconds(function: Callable[[], object], times: int) -> float:
    """The median of several calls."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


if __name__ == "__main__":
    main()
