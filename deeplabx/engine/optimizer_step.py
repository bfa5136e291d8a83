"""An optimizer step that the device leaves out where a flag says so: the host does not wait for the flag."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from deeplabx.errors import ConfigError


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Move the state that an optimizer was built with to the device and the memory format of its parameters,
    which may have been moved since. Give fused SGD its momentum, as zeros.

    In its first step it would allocate the momentum uninitialised, and if that step is left out, keep what
    happened to be in that memory.
    """
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[slot] = torch.empty_like(parameter).detach().copy_(value)
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


@contextmanager
def refuse_lost_state(optimizer: torch.optim.Optimizer, *, check: bool) -> Iterator[None]:
    """Around a step: raise ConfigError where the optimizer keeps what a checkpoint does not hold, so that a
    resumed run would be another one. Checkpoints hold the tensors of each parameter's state.
    """
    before = [settings_of(group) for group in optimizer.param_groups] if check else []
    yield
    if not check:
        return
    name = type(optimizer).__name__
    for group, settings in zip(optimizer.param_groups, before, strict=True):
        changed = [key for key, value in settings_of(group).items() if value != settings.get(key)]
        if changed:
            raise ConfigError(
                f"{name} changes its setting {changed[0]} in each step, which a checkpoint does not hold",
                hint="use an optimizer that keeps its state in tensors of each parameter",
            )
    for slots in optimizer.state.values():
        for slot, value in slots.items() if isinstance(slots, dict) else [("state", slots)]:
            if value is not None and not isinstance(value, Tensor):
                raise ConfigError(
                    f"{name} keeps {slot} as a {type(value).__name__}, which a checkpoint does not hold",
                    hint="it must be a tensor, such as torch.tensor(0.0)",
                )


def settings_of(group: dict[str, Any]) -> dict[str, Any]:
    """What a group of parameters has beside its parameters and the learning rate, which the schedule sets;
    tensors as copies of their values.
    """
    return {
        key: value.tolist() if isinstance(value, Tensor) else value
        for key, value in group.items()
        if key not in ("params", "names", "lr")
    }
