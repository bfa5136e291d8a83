"""The state of a run is one object. What its `state_dict` does not list does not change during training."""

import math
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.engine.ema import EMA
from deeplabx.engine.noise import seeded
from deeplabx.errors import ConfigError, DivergedError
from deeplabx.loss.contract import Loss
from deeplabx.model.contract import DeepLab
from deeplabx.process import distributed
from deeplabx.process.signals import StopRequest
from deeplabx.schedule.contract import Schedule

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_SKIPPED = 20  # steps in a row: a model that gives no finite loss on that many batches will not recover


class Update(NamedTuple):
    loss: float  # of the whole batch, over all processes
    valid: int  # pixels that counted
    stop: int | None  # the stop signal received by any process of the run
    skipped: bool  # the loss or its gradient was not finite, and the model was not changed
    undone: bool = False  # the step was not taken: a process lacks its batch, or a signal came between passes


def described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    shape = f"a tensor of {tuple(value.shape)}" if value.ndim else "a scalar"
    return shape if value.requires_grad else f"{shape} without a gradient"


class TrainState:
    """Model, EMA weights, optimizer, step and best evaluation, and `update`, which takes one optimizer step.
    Everything else is fixed at construction.

    precision: fp32, bf16 or fp16. accumulate: number of passes per batch. on_nonfinite: abort or skip a step
    whose loss or gradient is not finite. ema_decay: decay of the EMA weights, None for no EMA.
    """

    def __init__(
        self,
        model: DeepLab,
        optimizer: torch.optim.Optimizer,
        *,
        loss: Loss,
        schedule: Schedule,
        max_iters: int,
        normalization: Normalization,
        ignore_index: int,
        device: torch.device,
        seed: int = 0,
        precision: str = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        on_nonfinite: str = "abort",
        ema_decay: float | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.step = 0
        self.evaluated = 0  # the step of the newest evaluation
        self.best: dict[str, Any] = {}  # step and metrics of the best one
        self.skipped_in_a_row = 0
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

        self.loss, self.schedule, self.max_iters = loss, schedule, max_iters
        self.normalization, self.ignore_index, self.device = normalization, ignore_index, device
        self.seed, self.precision, self.accumulate = seed, precision, accumulate
        self.clip_norm, self.on_nonfinite = clip_norm, on_nonfinite
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Gives all processes the main one's weights, from which the EMA starts.
        self.network = distributed.parallel(model, device)
        self.ema = None if ema_decay is None else EMA(model, decay=ema_decay)

    @property
    def best_miou(self) -> float:
        return float(self.best.get("miou", -1.0))

    @property
    def evaluated_model(self) -> DeepLab:
        """What is evaluated and saved: the EMA weights where there are any, else the model itself."""
        return self.model if self.ema is None else self.ema.model

    @property
    def finished(self) -> bool:
        return self.step == self.max_iters

    @property
    def is_best(self) -> bool:
        """Whether the best evaluation is the one at this step."""
        return self.best.get("step") == self.step

    @property
    def lr(self) -> float:
        """The learning rate at this step, the backbone's unless all of it is frozen."""
        return float(self.optimizer.param_groups[0]["base_lr"]) * self.schedule(
            min(self.step, self.max_iters - 1)
        )

    def update(self, images: Tensor, labels: Tensor, *, stop: StopRequest | None = None) -> Update:
        """One optimizer step on this process's part of a batch: uint8 images N x H x W x channels, uint8
        labels N x H x W, N divisible by `accumulate`.

        Only every `label_stride`-th label is used, as the model requires. The loss (for several outputs,
        their weighted sum) is divided by the number of valid pixels (or of images that have any) in the whole
        batch, so its gradient depends neither on `accumulate` nor on the number of processes. Loss and
        gradient are those of all processes, so all agree on whether they are finite.

        Between two passes a stop signal undoes the step: everything is as it was before. It is also left
        undone if another process lacks its batch (`without_batch`).
        """
        noise = zlib.crc32(f"dropout {self.seed} {self.step} {distributed.rank()}".encode())
        self.network.train()
        stride = self.model.label_stride
        labels = labels[:, ::stride, ::stride]
        valid = (labels != self.ignore_index).flatten(1).sum(dim=1)  # of each image
        asked, (pixels, with_pixels, lacking) = distributed.agreed(
            stop, int(valid.sum()), int((valid > 0).sum()), 0
        )
        if lacking:
            return Update(0.0, 0, asked, skipped=False, undone=True)
        divisor = max(1, int(pixels if self.loss.per == "pixel" else with_pixels))
        can_be_undone = self.on_nonfinite == "skip" or self.accumulate > 1
        untouched = [buffer.clone() for buffer in self.model.buffers()] if can_be_undone else []
        loss = 0.0
        passes = zip(images.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True)
        with seeded(noise, self.device):  # dropout noise is a function of (seed, step, rank)
            for number, (some_images, some_labels) in enumerate(passes, start=1):
                if number > 1 and (between := distributed.agreed(stop)[0]) is not None:
                    self.restore_buffers(untouched)
                    self.optimizer.zero_grad(set_to_none=True)
                    return Update(0.0, 0, between, skipped=False, undone=True)
                with self.no_sync(last=number == self.accumulate):
                    part = self.forward_loss(some_images, some_labels) / divisor
                    # The processes' gradients are averaged, the loss is a sum.
                    self.scaler.scale(part * distributed.world_size()).backward()
                loss += float(part.detach())
        (loss,) = distributed.summed([loss])
        what = self.not_finite(loss)
        if what:
            self.abort_or_skip(what, untouched)
        else:
            self.take_step()
            self.skipped_in_a_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if stop is not None and distributed.world_size() == 1:
            asked = stop.number  # several processes stop only for the signal agreed on above
        return Update(loss, int(pixels), asked, skipped=bool(what))

    def without_batch(self, *, stop: StopRequest | None = None) -> Update:
        """Take part in a step without a batch: all processes leave it undone, and learn of a stop signal."""
        asked, _ = distributed.agreed(stop, 0, 0, 1)
        return Update(0.0, 0, asked, skipped=False, undone=True)

    def no_sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over the processes in the last pass of a step only."""
        if isinstance(self.network, nn.parallel.DistributedDataParallel) and not last:
            return self.network.no_sync()
        return nullcontext()

    def forward_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of one pass, with its autograd graph."""
        images = self.normalization(images.to(self.device, non_blocking=True))  # channels_last in memory
        labels = labels.to(self.device, non_blocking=True).long()
        with self.autocast():
            outputs = self.network(images)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        losses = [self.loss(logits.float(), labels, ignore_index=self.ignore_index) for logits in outputs]
        for loss in losses:
            if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
                raise ConfigError(
                    f"the loss {type(self.loss).__name__} returned {described(loss)}, but must return a "
                    "sum over pixels or images: a scalar with a gradient"
                )
        weighted = [weight * loss for weight, loss in zip(self.model.loss_weights, losses, strict=True)]
        return torch.stack(weighted).sum()

    def autocast(self) -> AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext()

    def not_finite(self, loss: float) -> str:
        """Which of loss and gradient is not finite, with its value; empty when both are. It also unscales and
        clips the gradient.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm)
        # In fp16 a gradient overflows now and then: the scaler then skips the step and reduces the scale.
        if self.scaler.is_enabled() or torch.isfinite(norm):
            return ""
        return f"the gradient's norm is {float(norm)}"

    def abort_or_skip(self, what: str, untouched: list[Tensor]) -> None:
        """Raise DivergedError, or restore the buffers: batch-norm statistics may no longer be finite."""
        self.skipped_in_a_row += 1
        if self.on_nonfinite == "abort" or self.skipped_in_a_row > MOST_SKIPPED:
            again = f", as in the {MOST_SKIPPED} steps before it" if self.on_nonfinite == "skip" else ""
            raise DivergedError(
                f"{what} at step {self.step + 1}{again}, with learning rate {self.lr:.3g}",
                hint="earlier checkpoints are intact; try a smaller optimizer.lr, "
                "schedule.warmup_iters=100 or trainer.clip_norm=10",
            )
        self.restore_buffers(untouched)

    def restore_buffers(self, untouched: list[Tensor]) -> None:
        for buffer, before in zip(self.model.buffers(), untouched, strict=True):
            buffer.copy_(before)

    def take_step(self) -> None:
        factor = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        scale = self.scaler.get_scale() if self.ema else 1.0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if (
            self.ema and self.scaler.get_scale() >= scale
        ):  # in fp16, a smaller scale means that it skipped the step
            self.ema.update(self.model)

    # --- what is saved --------------------------------------------------------------------------------------

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
        """The inverse of `optimizer_tensors`. Each slot takes its parameter's memory format: fused SGD reads
        both in memory order.
        """
        parameters = dict(self.model.named_parameters())
        index = {name: number for number, name in enumerate(self.parameter_names())}
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, slot = key.rpartition("/")
            if value.shape == parameters[name].shape:
                value = torch.empty_like(parameters[name]).detach().copy_(value)
            slots.setdefault(index[name], {})[slot] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """The scalars; model and optimizer tensors are saved beside them."""
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "best": self.best,
            "skipped_in_a_row": self.skipped_in_a_row,
            "scaler": self.scaler.state_dict(),
            "ema_updates": self.ema.updates if self.ema else 0,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.best = state["step"], state["best"]
        self.evaluated, self.skipped_in_a_row = state["evaluated"], state["skipped_in_a_row"]
        self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.updates = state["ema_updates"]
