"""What tests run in several processes: importable by the processes that are started."""

import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.predictor import Predictor
from deeplabx.model.norm import FrozenBatchNorm2d
from deeplabx.process import distributed
from deeplabx.run.build import open_dataset
from tests.engine.states import IMAGES, LABELS, gradients_of, in_float64, model_without_noise, state_of, taken

VAL_IMAGES = 7  # an uneven share
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


def measured() -> dict[str, Any]:
    """Everything that must not depend on the number of processes."""
    return {
        "gradient": gradient(accumulate=1),
        "gradient_in_passes": gradient(accumulate=3),
        **(run := trained(steps=4)),
        "averages_of_each": distributed.gathered([fingerprint(run["averages"])]),
        "confusion_sha256": evaluated(),
        "ranks": distributed.gathered([distributed.rank()]),
        "processes": distributed.gathered([os.getpid()]),
        "cores": distributed.share_of_cores(),
        "threads": distributed.gathered([torch.get_num_threads()]),
        "norms": {norm: kinds_of_norm(norm) for norm in ("auto", "sync", "batch", "frozen")},
    }


def kinds_of_norm(norm: str) -> set[type]:
    """Of a model's norm layers, synchronized as for GPUs."""
    with torch.device("meta"):
        model = deeplabx.build_model("deeplabv3", backbone="resnet18", num_classes=3, norm=norm)
    names = list(model.state_dict())
    synchronized = distributed.synchronize_norm(model, norm=norm, device=torch.device("cuda"))
    kinds = {type(module) for module in model.modules() if isinstance(module, NORMS)}
    assert synchronized == (nn.SyncBatchNorm in kinds)
    assert list(model.state_dict()) == names
    return kinds


def batch() -> tuple[Tensor, Tensor]:
    """This process's share of six images with uneven void."""
    mine = slice(distributed.rank(), None, distributed.world_size())
    return IMAGES[mine], LABELS[mine]


def gradient(*, accumulate: int) -> dict[str, Tensor]:
    """The gradient of one update, the model in float64."""
    state = state_of(model_without_noise().double(), accumulate=accumulate)
    state.normalization = in_float64  # type: ignore[assignment]
    kept: dict[str, Tensor] = {}
    state.take_step = lambda left_out: kept.update(gradients_of(state.model))  # type: ignore[method-assign]
    taken(state, *batch())
    return kept


def trained(*, steps: int) -> dict[str, Any]:
    """The losses of a run in float32, and after it the weights and their moving averages."""
    state = state_of(model_without_noise(), ema_decay=0.9)
    state.schedule = lambda step: 0.2
    curve = [taken(state, *batch()).loss for _ in range(steps)]
    weights, averages = (
        {name: value.detach() for name, value in model.named_parameters()}
        for model in (state.model, state.evaluated_model)
    )
    return {"curve": curve, "weights": weights, "averages": averages}


def fingerprint(tensors: dict[str, Tensor]) -> int:
    return zlib.crc32(torch.cat([value.flatten() for value in tensors.values()]).numpy().tobytes())


def evaluated() -> str:
    samples = open_dataset("shapes", split="val", train_images=1, val_images=VAL_IMAGES)
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 7, 3, padding=1)
    normalization = model_without_noise().backbone.normalization
    return evaluate(Predictor(model, normalization, torch.device("cpu")), samples).confusion_sha256


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


def compared() -> dict[str, Any]:
    """What the reliability bench compares."""
    return {"gradient": gradient(accumulate=1), "curve": trained(steps=20)["curve"]}
