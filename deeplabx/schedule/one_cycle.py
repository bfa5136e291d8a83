"""One cycle (1708.07120): the learning rate rises to its largest value, then falls far below the first."""

import math


def one_cycle(
    step: int,
    *,
    max_iters: int,
    rise: float = 0.3,
    start_factor: float = 0.04,
    end_factor: float = 4e-6,
    shape: str = "cosine",
) -> float:
    """From `start_factor` to 1 over the share `rise` of the steps, then to `end_factor`, which the last step
    has. shape: of both parts, cosine or linear.

    The peak is at rise * max_iters - 1, as in torch.optim.lr_scheduler.OneCycleLR. The momentum stays as it
    is; the paper lowers it while the learning rate rises.
    """
    peak, last = max(0.0, rise * max_iters - 1), max_iters - 1
    if step <= peak:
        begin, end, share = start_factor, 1.0, step / peak if peak else 1.0
    else:
        begin, end, share = 1.0, end_factor, (step - peak) / (last - peak)
    if shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return begin + (end - begin) * share
