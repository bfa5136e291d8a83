"""torch's random numbers, which belong to the whole process: one training at a time draws them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Random numbers that begin with `seed`; no other thread draws meanwhile, and afterwards the generators
    are where they were. device: a GPU whose numbers are drawn too.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with LOCK, torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
