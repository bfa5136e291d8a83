"""Row 19: what saving costs."""

import statistics
import time
from pathlib import Path

import torch

import deeplabx
from benchmarks.chaos.row import Measured, Row
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.state import TrainState
from deeplabx.loss import build_loss
from deeplabx.optimizer import build_optimizer
from deeplabx.schedule import build_schedule

EVERY = 100  # steps


def state_of(model: str, backbone: str) -> TrainState:
    network = deeplabx.build_model(model, backbone=backbone, num_classes=21)
    return TrainState(
        network,
        build_optimizer("sgd", network, lr=0.01, weight_decay=1e-4, momentum=0.9),
        loss_sum=build_loss("cross_entropy"),
        schedule=build_schedule("poly", max_iters=1000, warmup_iters=0, power=0.9),
        max_iters=1000,
        normalization=network.backbone.normalization,
        ignore_index=255,
        device=torch.device("cpu"),
    )


def seconds(function: object, times: int) -> float:
    """The median of several calls."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        function()  # type: ignore[operator]
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def cost(work: Path, short: bool) -> Measured:
    """A step of the default run (batch 8 of 65 x 65) and a save of its state; a save of a large one."""
    state = state_of("deeplabv3plus", "mobilenetv2")
    images, labels = (
        torch.randint(0, 256, (8, 65, 65, 3), dtype=torch.uint8),
        torch.randint(0, 21, (8, 65, 65), dtype=torch.uint8),
    )
    state.update(images, labels)
    step = seconds(lambda: state.update(images, labels), 5 if short else 25)
    small, large = work / "small", work / "large"
    save = seconds(lambda: checkpoints.keep(state, small, config={}, best=False), 3 if short else 9)
    share = save / (EVERY * step)
    words = (
        f"step {step * 1000:.0f} ms, save {save * 1000:.0f} ms of {megabytes(small):.0f} MB: "
        f"{share:.2%} of {EVERY} steps"
    )
    if not short:
        big = state_of("deeplabv3", "resnet101")
        big.update(images[:2], labels[:2])
        save = seconds(lambda: checkpoints.keep(big, large, config={}, best=False), 3)
        words += (
            f"; DeepLabv3 on ResNet-101: {megabytes(large):.0f} MB in {save:.1f} s, "
            f"{megabytes(large) / save:.0f} MB/s with fsync and sha256"
        )
    return Measured(words, share < 0.02)


def megabytes(folder: Path) -> float:
    """The size of the newest checkpoint."""
    (*_, newest) = sorted(folder.glob("step-*"))
    return sum(path.stat().st_size for path in newest.iterdir()) / 1e6


ROWS = [Row(19, "saving every 100 steps", "< 2 % of the training", cost)]
