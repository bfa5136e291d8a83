"""What tests run in several processes: importable by the processes that are started."""

import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import DataError
from deeplabx.process import distributed
from deeplabx.run.build import open_dataset
from tests.engine.states import IMAGES, LABELS, gradients_of, in_float64, model_without_noise, state_of

VAL_IMAGES = 7  # an uneven share


def measured() -> dict[str, Any]:
    """Everything that must not depend on the number of processes."""
    return {
        "gradient": gradient(accumulate=1),
        "gradient_in_passes": gradient(accumulate=3),
        "weights": weights_after(steps=3),
        "averages": (averages := weights_after(steps=3, ema_decay=0.9)),
        "averages_of_each": distributed.gathered([fingerprint(averages)]),
        "curve": curve(steps=10),
        "confusion_sha256": evaluated(),
        "ranks": distributed.gathered([distributed.rank()]),
        "processes": distributed.gathered([os.getpid()]),
        "threads": distributed.gathered([torch.get_num_threads()]),
    }


def share(tensor: Tensor) -> Tensor:
    return tensor[distributed.rank() :: distributed.world_size()]


def batch() -> tuple[Tensor, Tensor]:
    """Twelve images with uneven void, and this process's share of them."""
    images, labels = torch.cat([IMAGES, IMAGES.flip(1)]), torch.cat([LABELS, LABELS.flip(2)])
    return share(images), share(labels)


def gradient(*, accumulate: int) -> dict[str, Tensor]:
    """The gradient of one update, the model in float64."""
    state = state_of(model_without_noise().double(), accumulate=accumulate)
    state.normalization = in_float64  # type: ignore[assignment]
    kept: dict[str, Tensor] = {}
    state.take_step = lambda: kept.update(gradients_of(state.model))  # type: ignore[method-assign]
    state.update(*batch())
    return kept


def weights_after(*, steps: int, ema_decay: float | None = None) -> dict[str, Tensor]:
    """Of what is evaluated."""
    state = state_of(model_without_noise(), ema_decay=ema_decay)
    for _ in range(steps):
        state.update(*batch())
    return {name: value.detach().clone() for name, value in state.evaluated_model.named_parameters()}


def fingerprint(tensors: dict[str, Tensor]) -> int:
    return zlib.crc32(torch.cat([value.flatten() for value in tensors.values()]).numpy().tobytes())


def curve(*, steps: int) -> list[float]:
    """The losses of a run in float32."""
    state = state_of(model_without_noise())
    state.schedule = lambda step: 0.2
    return [state.update(*batch()).loss for _ in range(steps)]


def evaluated() -> str:
    samples = open_dataset("shapes", split="val", train_images=1, val_images=VAL_IMAGES)
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 7, 3, padding=1)
    normalization = model_without_noise().backbone.normalization
    return evaluate(Predictor(model, normalization, torch.device("cpu")), samples).confusion_sha256


def fails_on_rank_1(kind: str) -> None:
    if distributed.rank() == 1:
        if kind == "data":
            raise DataError("broken.png cannot be read", hint="remove it")
        if kind == "bug":
            raise KeyError("nothing")
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.summed([1.0])  # waits for rank 1


def process_ids(folder: Path) -> None:
    """Say who is there, and work for ever."""
    (folder / f"pid-{os.getpid()}").touch()
    time.sleep(600)


def is_lost_once(folder: Path) -> str:
    """Rank 1 is killed in its first attempt."""
    attempt = len(list(folder.iterdir()))
    distributed.summed([1.0])  # both have counted
    if distributed.rank() == 1 and attempt == 0:
        (folder / str(attempt)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.summed([1.0])
    return ["first time", "second time"][attempt]


def counts_and_fails(folder: Path) -> None:
    if distributed.rank() == 1:
        (folder / f"attempt-{os.getpid()}").touch()
        raise DataError("broken.png cannot be read")
    distributed.summed([1.0])


def compared() -> dict[str, Any]:
    """What the reliability bench compares."""
    return {"gradient": gradient(accumulate=1), "curve": curve(steps=20)}
