"""What tests run in several processes: importable by the processes that are started."""

import contextlib
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.dataset.loader import Batch
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.log import Log
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.state import Update
from deeplabx.engine.trainer import fit
from deeplabx.errors import DataError, DeeplabxError
from deeplabx.model.norm import FrozenBatchNorm2d
from deeplabx.process import distributed
from deeplabx.process.signals import StopRequest
from deeplabx.run.build import open_dataset
from tests.engine.states import (
    IMAGES,
    LABELS,
    gradients_of,
    in_float64,
    model_without_noise,
    poison,
    state_of,
    taken,
)

VAL_IMAGES = 7  # an uneven share
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


def measured() -> dict[str, Any]:
    """Everything that must not depend on the number of processes."""
    return {
        "gradient": gradient(accumulate=1),
        "gradient_in_passes": gradient(accumulate=3),
        **(run := trained(steps=4)),
        "averages_of_each": distributed.gathered([fingerprint(run["averages"])]),
        "poisoned": trained(steps=4, poisoned=2, on_nonfinite="skip"),
        "confusion_sha256": evaluated(),
        "ranks": distributed.gathered([distributed.rank()]),
        "processes": distributed.gathered([os.getpid()]),
        "cores": distributed.share_of_cores(),
        "threads": distributed.gathered([torch.get_num_threads()]),
        "short_of_data": short_of_data() if distributed.world_size() > 1 else {},
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


def trained(*, steps: int, poisoned: int | None = None, **settings: Any) -> dict[str, Any]:
    """The losses of a run in float32, and after it the weights and their moving averages. poisoned: the step
    in which the last process's loss is not finite.
    """
    state = state_of(model_without_noise(), ema_decay=0.9, **settings)
    state.schedule = lambda step: 0.2
    curve = []
    for step in range(1, steps + 1):
        last = distributed.rank() == distributed.world_size() - 1
        with poison(state) if last and step == poisoned else contextlib.nullcontext():
            curve.append(taken(state, *batch()).loss)
    weights, averages = (
        {name: value.detach() for name, value in model.named_parameters()}
        for model in (state.model, state.evaluated_model)
    )
    return {"curve": curve, "weights": weights, "averages": averages}


def fingerprint(tensors: dict[str, Tensor]) -> int:
    return zlib.crc32(torch.cat([value.flatten() for value in tensors.values()]).numpy().tobytes())


class ShortOfData(Log):
    """What a run of four steps does whose last process cannot read its third batch, or an image of the
    evaluation after two steps; a Log that notes the steps, and a Saver.
    """

    def __init__(self) -> None:
        self.state = state_of(model_without_noise())
        self.events: list[str] = []

    def step(self, update: Update) -> None:
        self.events.append(f"step {update.step}")

    def try_save(self) -> None:
        assert not self.state.pending
        self.events.append(f"save {self.state.step}")

    def batches(self, *, eval_every: int) -> Iterator[Batch]:
        for step in range(4):
            if step == 2 and distributed.rank() == 1 and eval_every > step:
                raise DataError("the third batch cannot be read")
            yield Batch(*batch(), [])

    def fit(self, evaluate: Callable[[], Metrics], *, eval_every: int) -> list[str]:
        try:
            fit(
                self.state,
                self.batches(eval_every=eval_every),
                stop=StopRequest(),
                evaluate=evaluate,
                saver=self,  # type: ignore[arg-type]
                log=self,
                eval_every=eval_every,
                save_every=100,
            )
        except DeeplabxError as error:
            self.events.append(f"{type(error).__name__}: {error.message}")
        return self.events


def evaluated_but_for_one() -> Metrics:
    """An evaluation in which the last process cannot read an image."""
    samples = open_dataset("shapes", split="val", train_images=1, val_images=4)
    if distributed.rank() == 1:
        unreadable = mock.Mock(side_effect=DataError("an image cannot be read"))
        samples.read = unreadable  # type: ignore[method-assign]
    return evaluate(small_predictor(), samples)


def evaluated_but_not_drawn() -> Metrics:
    """An evaluation after which the main process cannot read its samples again."""
    samples = open_dataset("shapes", split="val", train_images=1, val_images=4)
    found = evaluate(small_predictor(), samples)
    if distributed.is_main():
        raise DataError("a sample cannot be read")
    return found


def short_of_data() -> dict[str, list[list[str]]]:
    """What each process does."""
    found = {
        where: distributed.gathered([ShortOfData().fit(evaluated_but_for_one, eval_every=steps)])
        for where, steps in (("training", 100), ("evaluation", 2))
    }
    alone = ShortOfData().fit(evaluated_but_not_drawn, eval_every=2)
    if distributed.is_main():
        distributed.agreed(None, 1, 1)  # where it would exit, which ends the other
    return {**found, "main": distributed.gathered([alone])}


def evaluated() -> str:
    samples = open_dataset("shapes", split="val", train_images=1, val_images=VAL_IMAGES)
    return evaluate(small_predictor(), samples).confusion_sha256


def small_predictor() -> Predictor:
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 7, 3, padding=1)
    return Predictor(model, model_without_noise().backbone.normalization, torch.device("cpu"))


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
