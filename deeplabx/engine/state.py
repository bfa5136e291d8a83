"""The state of a run is one object. What its `state_dict` does not list does not change during training."""

import math
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeplabx.backbone.contract import Normalization
from deeplabx.engine import distributed
from deeplabx.engine.signals import WATCHED, StopRequest
from deeplabx.errors import DivergedError
from deeplabx.loss import LossSum
from deeplabx.model import DeepLab
from deeplabx.schedule import Schedule

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Update(NamedTuple):
    loss: float  # of the whole batch, over all processes
    valid: int  # pixels that counted
    stop: int | None  # the signal that asked some process to stop, before the gradients were computed


class TrainState:
    """Model, optimizer, step and best evaluation, and `update`, which takes one optimizer step. Everything else is fixed at construction.

    precision: fp32, bf16 or fp16. accumulate: passes that one batch is split into.
    """

    def __init__(
        self,
        model: DeepLab,
        optimizer: torch.optim.Optimizer,
        *,
        loss_sum: LossSum,
        schedule: Schedule,
        max_iters: int,
        normalization: Normalization,
        ignore_index: int,
        device: torch.device,
        seed: int = 0,
        precision: str = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.step = 0
        self.best: dict[str, Any] = {}  # step and metrics of the best evaluation
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

        self.loss_sum, self.schedule, self.max_iters = loss_sum, schedule, max_iters
        self.normalization, self.ignore_index, self.device = normalization, ignore_index, device
        self.seed, self.precision, self.accumulate = seed, precision, accumulate
        self.clip_norm = clip_norm
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = distributed.parallel(model, device)

    @property
    def best_miou(self) -> float:
        return float(self.best.get("miou", -1.0))

    @property
    def lr(self) -> float:
        """The backbone's learning rate at this step."""
        return float(self.optimizer.param_groups[0]["base_lr"]) * self.schedule(min(self.step, self.max_iters - 1))

    def update(self, images: Tensor, labels: Tensor, *, stop: StopRequest | None = None) -> Update:
        """One optimizer step on this process's part of a batch: uint8 images N x H x W x 3, uint8 labels N x H x W, N divisible by `accumulate`.

        The loss is divided by the valid pixels of the whole batch, so its gradient depends neither on `accumulate` nor on the number of processes.
        """
        noise = zlib.crc32(f"dropout {self.seed} {self.step} {distributed.rank()}".encode())
        torch.manual_seed(noise)  # dropout noise is a function of (seed, step, rank)
        self.network.train()
        valid, number = self.agree(int((labels != self.ignore_index).sum()), stop)
        loss = 0.0
        for place, (some_images, some_labels) in enumerate(
            zip(images.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True), start=1
        ):
            with self.averaging(last=place == self.accumulate):
                part = self.forward_loss(some_images, some_labels) / max(1, valid)
                self.scaler.scale(part * distributed.world_size()).backward()  # the processes' gradients are averaged, the loss is a sum
            loss += float(part.detach())
        (loss,) = distributed.summed([loss])
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {self.step + 1}, with learning rate {self.lr:.3g}",
                hint="the checkpoints before it are sound; try a smaller optimizer.lr, schedule.warmup_iters=100 or trainer.clip_norm=10",
            )
        self.take_step()
        self.step += 1
        return Update(loss, valid, number)

    def agree(self, valid: int, stop: StopRequest | None) -> tuple[int, int | None]:
        """The valid pixels of all processes, and the signal that any of them was sent, in one message."""
        sent = [float(stop is not None and stop.number == number) for number in WATCHED]
        total, *asked = distributed.summed([valid, *sent])
        return int(total), next((int(number) for number, count in zip(WATCHED, asked, strict=True) if count), None)

    def averaging(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over the processes in the last pass of a step only."""
        if isinstance(self.network, nn.parallel.DistributedDataParallel) and not last:
            return self.network.no_sync()
        return nullcontext()

    def forward_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of one pass, with a graph."""
        images = self.normalization(images.to(self.device, non_blocking=True))  # channels_last, as pictures are decoded
        labels = labels.to(self.device, non_blocking=True).long()
        with self.autocast():
            logits = self.network(images)
        return self.loss_sum(logits.float(), labels, ignore_index=self.ignore_index)

    def autocast(self) -> AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext()

    def take_step(self) -> None:
        factor = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    # --- what is saved ---------------------------------------------------------------------------------------------------------------

    def parameter_names(self) -> list[str]:
        """Names of the optimizer's parameters, in its order."""
        return [name for group in self.optimizer.param_groups for name in group["names"]]

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's tensors as `parameter name/slot`."""
        slots = self.optimizer.state_dict()["state"]
        return {
            f"{name}/{slot}": value
            for index, name in enumerate(self.parameter_names())
            for slot, value in slots.get(index, {}).items()
            if isinstance(value, Tensor)
        }

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`. Each slot takes its parameter's memory format: fused SGD reads both in memory order."""
        parameters = dict(self.model.named_parameters())
        index = {name: number for number, name in enumerate(self.parameter_names())}
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, slot = key.rpartition("/")
            same_shape = value.shape == parameters[name].shape
            slots.setdefault(index[name], {})[slot] = torch.empty_like(parameters[name]).detach().copy_(value) if same_shape else value
        self.optimizer.load_state_dict({"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def state_dict(self) -> dict[str, Any]:
        """The scalars; model and optimizer tensors are saved beside them."""
        return {
            "step": self.step,
            "max_iters": self.max_iters,
            "best": self.best,
            "seed": self.seed,
            "precision": self.precision,
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.best = state["step"], state["best"]
        self.scaler.load_state_dict(state["scaler"])
