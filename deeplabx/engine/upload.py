"""Copying a batch to the device while it computes the step before."""

import torch
from torch import Tensor


class Upload:
    """Copies tensors to `device`. On a GPU they are copied on a stream of their own, which overlaps with
    computation if they are in pinned memory; what is computed afterwards waits for them on the device, not
    here.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        if self.stream is None:
            return [tensor.to(self.device) for tensor in tensors]
        with torch.cuda.stream(self.stream):
            copies = [tensor.to(self.device, non_blocking=True) for tensor in tensors]
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        for copy in copies:
            copy.record_stream(computing)  # its memory may not be reused before that stream is done with it
        return copies
