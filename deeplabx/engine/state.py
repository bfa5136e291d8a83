"""The state of a run is one object. What its `state_dict` does not list does not change during training."""

import math
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.engine import optimizer_step
from deeplabx.engine.averages import EMA, SWA, Average
from deeplabx.engine.grouped_atrous import GroupedAtrousInFloat32
from deeplabx.engine.kernels import computing, repeating
from deeplabx.engine.noise import seeded
from deeplabx.engine.pending import Pending, recorded
from deeplabx.engine.upload import Upload
from deeplabx.errors import ConfigError, DivergedError
from deeplabx.loss.contract import Loss
from deeplabx.model.contract import DeepLab
from deeplabx.process import distributed
from deeplabx.process.signals import StopRequest
from deeplabx.schedule.contract import Schedule

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_SKIPPED = 20  # steps in a row: a model that gives no finite loss on that many batches will not recover


class Attempt(NamedTuple):
    """What the host knows once a step is enqueued."""

    stop: int | None  # the stop signal received by any process of the run
    undone: bool = False  # the step was not taken: a process lacks its batch, or a signal came between passes
    failed: bool = False  # a process will never have its batch

    @property
    def is_repeated(self) -> bool:
        return self.undone and self.stop is None and not self.failed


class Update(NamedTuple):
    """What is known of a step once the device has computed it."""

    step: int  # number of optimizer steps after it
    lr: float  # that it used
    loss: float  # of the whole batch, over all processes
    valid: int  # pixels that counted
    skipped: bool  # the loss or its gradient was not finite, and the model was not changed
    seconds: float  # in which the host enqueued it and waited for it; on a CPU, those of computing
    idle: float | None  # seconds without work before it, of a GPU
    gradient_norm: float  # before it was clipped


def described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    shape = f"a tensor of {tuple(value.shape)}" if value.ndim else "a scalar"
    return shape if value.requires_grad else f"{shape} without a gradient"


class TrainState:
    """Model, its average, optimizer, step and best evaluation, and `update`, which takes one optimizer step.
    Everything else is fixed at construction.

    A step is enqueued on the device, and the host does not wait for it: `reports` gives its loss later. The
    device itself checks whether the loss and its gradient are finite, and leaves out a step where they are
    not.

    precision: fp32, tf32, bf16 or fp16. accumulate: number of passes per batch. on_nonfinite: abort or skip a
    step whose loss or gradient is not finite. ema_decay: decay of the EMA weights, None for no EMA.
    swa_start, swa_every: from step swa_start on, the weights of every swa_every-th step are averaged; None
    for no SWA. patience: number of evaluations without a better mIoU after which the run ends, None for no
    end before max_iters. deterministic: whether a GPU uses only kernels that repeat to the bit
    (`engine.kernels`).
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
        swa_start: int | None = None,
        swa_every: int = 1,
        patience: int | None = None,
        deterministic: bool = True,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.step = 0
        self.evaluated = 0  # the step of the newest evaluation
        self.best: dict[str, Any] = {}  # step and metrics of the best one
        self.without_better = 0  # evaluations since the best one
        self.skipped_in_a_row = 0
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

        self.loss, self.schedule, self.max_iters = loss.to(device), schedule, max_iters
        self.normalization, self.ignore_index, self.device = normalization, ignore_index, device
        self.seed, self.precision, self.accumulate = seed, precision, accumulate
        self.clip_norm, self.on_nonfinite, self.deterministic = clip_norm, on_nonfinite, deterministic
        self.state_is_saved = False  # whether a step has shown that checkpoints hold the optimizer's state
        self.patience = patience
        self.unrepeatable: set[str] = set()  # operators of the first step that may not repeat on a GPU
        self.pending: deque[Pending] = deque()  # steps whose reports have not been read
        self.ended: torch.cuda.Event | None = None  # of the newest step
        self.upload = Upload(device)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer_step.prepare(optimizer)
        # Gives all processes the main one's weights, from which an average starts.
        self.network = distributed.parallel(model, device)
        self.average: Average | None = None
        if ema_decay is not None:
            self.average = EMA(model, decay=ema_decay)
        elif swa_start is not None:
            self.average = SWA(model, start=swa_start, every=swa_every)

    @property
    def best_miou(self) -> float:
        return float(self.best.get("miou", -1.0))

    @property
    def evaluated_model(self) -> DeepLab:
        """What is evaluated and saved: the average of the weights where there is one, else the model."""
        return self.model if self.average is None else self.average.model

    @property
    def finished(self) -> bool:
        return self.step == self.max_iters or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether `patience` has ended the run."""
        return self.patience is not None and self.without_better >= self.patience

    @property
    def is_best(self) -> bool:
        """Whether the best evaluation is the one at this step."""
        return self.best.get("step") == self.step

    def update(self, images: Tensor, labels: Tensor, *, stop: StopRequest | None = None) -> Attempt:
        """Enqueue one optimizer step on this process's part of a batch: uint8 images N x H x W x channels,
        uint8 labels N x H x W, N divisible by `accumulate`; in pinned memory if the device is a GPU.

        Only every `label_stride`-th label is used, as the model requires. The loss (for several outputs,
        their weighted sum) is divided by the number of valid pixels (or of images that have any) in the whole
        batch, so its gradient depends neither on `accumulate` nor on the number of processes. Loss and
        gradient are those of all processes, so all agree on whether they are finite.

        Between two passes a stop signal undoes the step: everything is as it was before. It is also left
        undone if another process lacks its batch (`without_batch`).
        """
        asked, (lacking, failed) = distributed.agreed(stop, 0, 0)
        if lacking:
            return Attempt(asked, undone=True, failed=bool(failed))
        start = time.perf_counter()
        with computing(self.device, tf32=self.precision == "tf32", deterministic=self.deterministic):
            images, labels = self.upload(images, labels)
            began = recorded(self.device)
            alerts = self.unrepeatable if self.ended is None else None  # of the first step
            with repeating(self.device, alerts=alerts) if self.deterministic else nullcontext():
                values, between = self.compute(images, labels, stop=stop)
        if values is None:
            return Attempt(between, undone=True)
        self.step += 1
        report = Pending(
            values,
            step=self.step,
            lr=self.lr,
            seconds=time.perf_counter() - start,
            began=began,
            ended_before=self.ended,
        )
        self.pending.append(report)
        self.ended = report.ended
        if stop is not None and distributed.world_size() == 1:
            asked = stop.number  # several processes stop only for the signal agreed on above
        return Attempt(asked)

    def without_batch(self, *, stop: StopRequest | None = None, failed: bool = False) -> Attempt:
        """Take part in a step without a batch: all processes leave it undone, and learn of a stop signal.
        failed: this process will not get one.
        """
        asked, (_, failures) = distributed.agreed(stop, 1, failed)
        return Attempt(asked, undone=True, failed=bool(failures))

    def compute(
        self, images: Tensor, labels: Tensor, *, stop: StopRequest | None
    ) -> tuple[Tensor | None, int | None]:
        """One step on the device. Its loss, the norm of its gradient and the number of valid pixels, float64;
        or, where a signal undoes it between two passes, None and that signal.
        """
        noise = zlib.crc32(f"dropout {self.seed} {self.step} {distributed.rank()}".encode())
        self.network.train()
        stride = self.model.label_stride
        labels = labels[:, ::stride, ::stride]
        valid = (labels != self.ignore_index).flatten(1).sum(dim=1)  # of each image
        counts = distributed.sum_in_place(torch.stack([valid.sum(), (valid > 0).sum()]))
        pixels, with_pixels = counts.unbind()
        divisors = torch.stack([pixels if one.per == "pixel" else with_pixels for _, one in self.loss.parts])
        divisors = divisors.clamp(min=1).float()  # of each part of the loss
        self.loss.at_step(self.step)
        can_be_undone = self.on_nonfinite == "skip" or self.accumulate > 1
        untouched = [buffer.clone() for buffer in self.model.buffers()] if can_be_undone else []
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        passes = zip(images.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True)
        with seeded(noise, self.device):  # dropout noise is a function of (seed, step, rank)
            for number, (some_images, some_labels) in enumerate(passes, start=1):
                if number > 1 and (between := distributed.agreed(stop)[0]) is not None:
                    self.restore_buffers(untouched, where=torch.ones_like(loss, dtype=torch.bool))
                    self.optimizer.zero_grad(set_to_none=True)
                    return None, between
                with self.no_sync(last=number == self.accumulate):
                    part = (self.forward_loss(some_images, some_labels) / divisors).sum()
                    # The processes' gradients are averaged, the loss is a sum.
                    self.scaler.scale(part * distributed.world_size()).backward()
                loss += part.detach()
        distributed.sum_in_place(loss)
        norm = self.gradient_norm()
        poisoned, overflowed = ~torch.isfinite(loss), ~torch.isfinite(norm)
        left_out = poisoned | overflowed
        # In fp16 a gradient overflows now and then, with a healthy model: the scaler reduces its scale.
        self.restore_buffers(untouched, where=poisoned if self.scaler.is_enabled() else left_out)
        self.take_step(left_out)
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack([loss, norm.double(), pixels.double()]), None

    def no_sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged over the processes in the last pass of a step only."""
        if isinstance(self.network, nn.parallel.DistributedDataParallel) and not last:
            return self.network.no_sync()
        return nullcontext()

    def forward_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of one pass, for each part of the loss, times its weight; with its autograd
        graph.
        """
        images, labels = self.normalization(images), labels.long()  # channels_last in memory
        with self.autocast():
            outputs = self.network(images)
        outputs = [one.float() for one in (outputs if isinstance(outputs, list) else [outputs])]
        return torch.stack(
            [weight * self.part_sum(part, outputs, labels) for weight, part in self.loss.parts]
        )

    def part_sum(self, part: Loss, outputs: list[Tensor], labels: Tensor) -> Tensor:
        """The summed loss of one part over the model's outputs, each times its weight, 0-d."""
        losses = [part(logits, labels, ignore_index=self.ignore_index) for logits in outputs]
        for loss in losses:
            if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
                whole = "" if part is self.loss else f", a part of the loss {type(self.loss).__name__},"
                raise ConfigError(
                    f"the loss {type(part).__name__}{whole} returned {described(loss)}, but must return a "
                    "sum over pixels or images: a scalar with a gradient"
                )
        weighted = [weight * loss for weight, loss in zip(self.model.loss_weights, losses, strict=True)]
        return torch.stack(weighted).sum()

    @contextmanager
    def autocast(self) -> Iterator[None]:
        dtype = AUTOCAST.get(self.precision)
        if dtype is None:
            yield
            return
        on_cpu = self.device.type == "cpu"
        with (
            torch.autocast(self.device.type, dtype=dtype),
            GroupedAtrousInFloat32() if on_cpu else nullcontext(),
        ):
            yield

    def gradient_norm(self) -> Tensor:
        """The norm of the gradient, 0-d, on the device, after unscaling; the gradient is then clipped."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm)
        return norm

    def restore_buffers(self, untouched: list[Tensor], *, where: Tensor) -> None:
        """Where `where` (bool, 0-d, on the device) is true, the buffers are as before the step: batch-norm
        statistics may no longer be finite.
        """
        if not untouched:
            return
        for buffer, before in zip(self.model.buffers(), untouched, strict=True):
            buffer.copy_(torch.where(where, before, buffer))

    @property
    def lr(self) -> float:
        """The learning rate of the newest step, before layer-wise decay; the backbone's unless all of it is
        frozen.
        """
        group = self.optimizer.param_groups[0]
        return float(group["lr"]) / float(group.get("layer_factor", 1.0))

    def take_step(self, left_out: Tensor) -> None:
        """Change optimizer and average, but not where `left_out` (bool, 0-d, on the device) is true."""
        factor = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        with optimizer_step.refuse_lost_state(self.optimizer, check=not self.state_is_saved):
            optimizer_step.step(self.optimizer, left_out=left_out)
        self.state_is_saved = bool(self.optimizer.state)
        self.scaler.update()
        if self.average:
            self.average.update(self.model, step=self.step + 1, left_out=left_out)

    def reports(self, *, behind: int = 0) -> Iterator[Update]:
        """The updates that were not reported yet, in their order, but for the newest `behind`, which the
        device may still be computing. It waits until the others are computed.

        Raises DivergedError for the first one that was not finite, or with on_nonfinite=skip for too many in
        a row.
        """
        while len(self.pending) > behind:
            report = self.pending.popleft()
            loss, norm, pixels = report.read()
            words = self.not_finite_words(loss, norm)
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if words else 0
            if words and (self.on_nonfinite == "abort" or self.skipped_in_a_row > MOST_SKIPPED):
                again = f", as in the {MOST_SKIPPED} steps before it" if self.on_nonfinite == "skip" else ""
                raise DivergedError(
                    f"{words} at step {report.step}{again}, with learning rate {report.lr:.3g}",
                    hint="earlier checkpoints are intact; try a smaller optimizer.lr, "
                    "schedule.warmup_iters=100 or trainer.clip_norm=10",
                )
            yield Update(
                report.step, report.lr, loss, int(pixels), bool(words), report.seconds, report.idle, norm
            )

    def not_finite_words(self, loss: float, norm: float) -> str:
        """Which of loss and gradient is not finite, with its value; empty when both are, or in fp16 when only
        the gradient is not.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self.scaler.is_enabled() or math.isfinite(norm):
            return ""
        return f"the gradient's norm is {norm}"

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
            "average_updates": int(self.average.updates) if self.average else 0,
            "without_better": self.without_better,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.best = state["step"], state["best"]
        self.evaluated, self.skipped_in_a_row = state["evaluated"], state["skipped_in_a_row"]
        self.scaler.load_state_dict(state["scaler"])
        self.without_better = state["without_better"]
        if self.average:
            self.average.updates.fill_(state["average_updates"])
