"""torch's random number generators are global to the process: one training at a time uses them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the generators with `seed` and restore them afterwards; other threads wait meanwhile. device: a
    GPU whose generator is seeded too.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with LOCK, torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
