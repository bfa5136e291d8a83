"""A training state and a random batch for the benchmarks."""

from functools import partial

import torch
from torch import Tensor

import deeplabx
from deeplabx.engine.state import TrainState
from deeplabx.loss.cross_entropy import CrossEntropy
from deeplabx.optimizer.groups import parameter_groups
from deeplabx.optimizer.sgd import sgd
from deeplabx.schedule.poly import poly


def state_of(model: str, *, backbone: str, num_classes: int) -> TrainState:
    """The training state of a model, with SGD in float32 on the CPU."""
    network = deeplabx.build_model(model, backbone=backbone, num_classes=num_classes)
    return TrainState(
        network,
        sgd(parameter_groups(network, lr=0.01, weight_decay=1e-4), momentum=0.9),
        loss=CrossEntropy(),
        schedule=partial(poly, max_iters=1000),
        max_iters=1000,
        normalization=network.backbone.normalization,
        ignore_index=255,
        device=torch.device("cpu"),
    )


def random_batch(size: int, *, crop: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """uint8 images size x crop x crop x 3 and labels size x crop x crop."""
    images = torch.randint(0, 256, (size, crop, crop, 3), dtype=torch.uint8)
    return images, torch.randint(0, num_classes, (size, crop, crop), dtype=torch.uint8)
