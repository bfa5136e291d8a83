"""An optimizer step that the device leaves out where a flag says so: the host does not wait for the flag."""

import torch
from torch import Tensor


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Give fused SGD its momentum, as zeros, in the memory format of the parameters.

    In its first step it would allocate the momentum uninitialised, and if that step is left out, keep what
    happened to be in that memory.
    """
    if not isinstance(optimizer, torch.optim.SGD) or not is_skippable(optimizer):
        return
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else []:
            optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


def is_skippable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer can leave a step out on the device: torch's fused ones can. Dampening does not
    apply to the first step, which momentum of zeros would hide.
    """
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    return fused and not any(group.get("dampening") for group in optimizer.param_groups)


def step(optimizer: torch.optim.Optimizer, *, left_out: Tensor) -> None:
    """One step; where `left_out` (bool, 0-d, on the device) is true, neither parameters nor the optimizer's
    own state change. With an optimizer that is not fused, the host waits for the flag.
    """
    if not is_skippable(optimizer):
        if not left_out:
            optimizer.step()
        return
    optimizer.found_inf = left_out.float()  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.found_inf  # type: ignore[attr-defined]
