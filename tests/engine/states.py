"""A small state without noise, and a batch with uneven void."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.engine.state import TrainState, Update
from deeplabx.loss.cross_entropy import CrossEntropy
from deeplabx.model.contract import DeepLab
from deeplabx.model.norm import freeze_norm
from deeplabx.optimizer.groups import parameter_groups
from deeplabx.optimizer.sgd import sgd
from deeplabx.schedule.poly import poly

torch.manual_seed(0)
IMAGES = torch.randint(0, 256, (6, 33, 33, 3), dtype=torch.uint8)
LABELS = torch.randint(0, 4, (6, 33, 33), dtype=torch.uint8)
LABELS[0] = 255  # uneven void: one image is all void, another nearly
LABELS[1, 2:] = 255


def state_of(model: DeepLab, **settings: object) -> TrainState:
    return TrainState(
        model,
        sgd(parameter_groups(model, lr=0.1, weight_decay=1e-4), momentum=0.9),
        loss=CrossEntropy(),
        schedule=partial(poly, max_iters=10),
        max_iters=10,
        normalization=model.backbone.normalization,
        ignore_index=255,
        device=torch.device("cpu"),
        **settings,  # type: ignore[arg-type]
    )


def taken(state: TrainState, images: Tensor = IMAGES, labels: Tensor = LABELS) -> Update:
    """One step, and what came of it."""
    assert not state.update(images, labels).undone
    (update,) = state.reports()
    return update


@contextmanager
def poison(state: TrainState, *, loss: bool = True) -> Iterator[None]:
    """Within the block the loss, or only the gradient, is not finite, and neither are batch norm's
    statistics.
    """
    forward_loss = state.forward_loss

    def poisoned(images: Tensor, labels: Tensor) -> Tensor:
        value = forward_loss(images, labels)
        for buffer in state.model.buffers():
            if buffer.is_floating_point():
                buffer.data.fill_(float("nan"))  # torch would notice it in the backward
        if loss:
            return value * float("inf")
        value.register_hook(lambda gradient: gradient * float("nan"))
        return value

    state.forward_loss = poisoned  # type: ignore[method-assign]
    yield
    state.forward_loss = forward_loss  # type: ignore[method-assign]


def in_float64(images: Tensor) -> Tensor:
    return (images.double() / 127.5 - 1).permute(0, 3, 1, 2)


def model_without_noise() -> DeepLab:
    torch.manual_seed(1)
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=4)
    freeze_norm(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of each parameter's gradient by name."""
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
