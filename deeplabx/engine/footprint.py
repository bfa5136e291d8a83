"""The memory that a network needs for an image, estimated without computing anything, and what is free."""

import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deeplabx.errors import DeeplabxError
from deeplabx.process.memory import Free, free_addresses, free_memory

SIDE = 512  # of the image of which live bytes are counted
# Convolutions have workspaces and copies in other memory formats, and freed memory that the allocator keeps
# is in pieces: measured by benchmarks/prediction.py.
REAL_TO_LIVE = 2.0
UNKNOWN = 8192.0  # bytes a pixel of a network whose tensors cannot be counted: more than any here needs
PART = 0.7  # of the free memory: others use it too, and none may be left


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that are alive; `peak` is the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self.note(one.untyped_storage())
        return found

    def note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known:
            return
        self.known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def bytes_per_pixel(model: nn.Module, *, channels: int) -> float:
    """Bytes that are alive at once for each pixel of an image, the weights apart. They are counted in a pass
    without memory or computation (torch's meta device); a model that cannot run there counts as needing more
    than any that can.
    """
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    image = torch.empty(1, channels, SIDE, SIDE, device="meta").to(memory_format=torch.channels_last)
    counted = LiveBytes()
    try:
        with torch.no_grad(), counted:
            torch.func.functional_call(model, state, (image,))
    except DeeplabxError:  # a signal that stops the command
        raise
    except Exception:  # noqa: BLE001  whatever a model of another program does with a tensor without data
        return UNKNOWN
    return (counted.peak + image.nbytes) / SIDE**2


@dataclass
class Budget:
    """What a predictor has found out about its network and the memory of its device, and what it has said of
    it.
    """

    per_pixel: float | None = None
    num_classes: int | None = None
    most: int | None = None  # images or windows in one pass, once there was no memory for more
    said: set[str] = field(default_factory=set)

    def bytes_per_pixel(self, model: nn.Module, *, channels: int) -> float:
        if self.per_pixel is None:
            self.per_pixel = bytes_per_pixel(model, channels=channels)
        return self.per_pixel

    def first(self, key: str) -> bool:
        """Whether this has not been said before."""
        if key in self.said:
            return False
        self.said.add(key)
        return True


def free_on(device: torch.device) -> Free | None:
    """The memory that is free on a device, for this process; None where the system does not say."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        index = torch.cuda.current_device() if device.index is None else device.index
        return Free(free + kept, total, f"GPU {index}")
    known = [one for one in (free_memory(), free_addresses()) if one is not None]
    least = min(known, key=lambda one: one.free, default=None)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return None if least is None else least._replace(free=least.free // processes)


def fitting(needed: float, free: Free | None) -> int:
    """How many images that need as much fit into the part of the free memory that is used."""
    return 1 if free is None else math.floor(PART * free.free / needed)
