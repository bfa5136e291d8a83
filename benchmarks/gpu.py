"""What only a GPU can show: that runs repeat to the bit, that no step waits, and how fast it is beside peers.
It prints a line for each result, and writes all of them into a JSON file.

python -m benchmarks.gpu --out results.json [--only bits,step] [--peer-vainf DIR]

--peer-vainf: a clone of github.com/VainF/DeepLabV3Plus-Pytorch to compare speed with. torchvision and
segmentation_models_pytorch are compared with if they can be imported. `--device cpu --tiny` runs all that a
CPU can, in small: it tests this file.
"""

import argparse
import contextlib
import gc
import hashlib
import importlib
import io
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import deeplabx
from deeplabx.backbone.normalization import IMAGENET
from deeplabx.command.compose import training_config
from deeplabx.command.train import train
from deeplabx.dataset.contract import Palette, Sample, SegmentationSet
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.footprint import Budget
from deeplabx.engine.kernels import computing, fix_workspace
from deeplabx.engine.noise import seeded
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.state import AUTOCAST, TrainState, Update
from deeplabx.errors import DeeplabxError
from deeplabx.model import resize
from deeplabx.model.size import billions, convolutions, parameter_count
from deeplabx.process import distributed
from deeplabx.run.build import model_of, state_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(Path(deeplabx.__file__).resolve().parent)
CLASSES, VOID = 21, 255
Batch = tuple[Tensor, Tensor]


# --- results ------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What all checks share: the device, the sizes, the time that is left, and the results so far.

    tiny: small sizes and few steps, to try this file.
    """

    device: torch.device
    tiny: bool
    out: Path
    deadline: float
    vainf: Path | None
    work: Path  # a temporary folder
    reserved: float = 0.0  # seconds for short checks that follow
    started: list[subprocess.Popen] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    results: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.results = {"machine": machine(self.device), "rows": [], "left_out": [], "failed": []}

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        return self.deadline - time.perf_counter() - self.reserved

    def has(self, seconds: float, check: str, name: str) -> bool:
        """Whether there is time for it. If not, that is noted."""
        if self.tiny or self.left >= seconds:
            return True
        self.leave_out(
            f"{check}: {name}", f"it takes about {seconds:.0f} s, {max(0.0, self.left):.0f} s are left"
        )
        return False

    def say(self, words: str) -> None:
        print(f"[{time.perf_counter() - self.began:4.0f} s] {words}", flush=True)

    def row(self, check: str, name: str, *, ok: bool | None = None, **values: Any) -> None:
        """Print a result and write all of them. ok: whether it is as promised; None if nothing is."""
        verdict = {True: "ok ", False: "FAILED ", None: ""}[ok]
        said = "  ".join(f"{key} {shown(value)}" for key, value in values.items())
        self.say(f"{check}: {verdict}{name}  {said}")
        self.results["rows"].append({"check": check, "name": name, "ok": ok, **values})
        if ok is False:
            self.results["failed"].append(f"{check}: {name}")
        self.write()

    def leave_out(self, check: str, why: str) -> None:
        self.say(f"{check}: left out: {why}")
        self.results["left_out"].append(f"{check}: {why}")
        self.write()

    def write(self) -> None:
        unfinished = self.out.with_name(f"{self.out.name}.part")
        unfinished.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self.out)

    @contextlib.contextmanager
    def isolated(self, check: str, name: str) -> Iterator[None]:
        """An error within the block becomes a result, and the next block goes on. Memory is freed."""
        begin = time.perf_counter()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever fails, the other checks are wanted
            trace = traceback.format_exception(error)
            words = " ".join(str(error).split())[:300]
            self.row(
                check,
                name,
                ok=False,
                error=f"{type(error).__name__}: {words}",
                at=innermost(error),
                trace="".join(trace)[-3000:].splitlines(),
            )
            error.__traceback__ = None  # its frames hold tensors
        finally:
            gc.collect()
            if self.cuda:
                torch.cuda.empty_cache()
            self.results.setdefault("seconds", {})[f"{check}: {name}"] = round(time.perf_counter() - begin, 1)

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "..." if isinstance(value, list) else str(value)


def innermost(error: BaseException) -> str:
    """The innermost line of the package, else of this file, in an error's traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].line}" if own else ""


def machine(device: torch.device) -> dict[str, Any]:
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpus": distributed.cores(),
        "device": str(device),
    }
    if device.type != "cuda":
        return found
    return {
        **found,
        "gpu": torch.cuda.get_device_name(device),
        "memory_gib": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


# --- our steps ----------------------------------------------------------------------------------------------


def ours(run: Run, *overrides: str, seed: int = 0) -> TrainState:
    """The training state of `deeplabx train overrides`, randomly initialised from `seed`."""
    config = training_config([f"trainer.devices={'auto' if run.cuda else 'cpu'}", *overrides])
    with seeded(seed):
        model = model_of(config, num_classes=CLASSES, in_channels=3)
    return state_of(config, model, ignore_index=VOID, device=run.device)


def advance(state: TrainState, batch: Batch) -> list[Update]:
    """One step, and what is known of the steps before it: as in training, the host does not wait for the
    newest one.
    """
    state.update(*batch)
    return list(state.reports(behind=1))


def settle(state: TrainState) -> list[Update]:
    """What is known of all steps, once the device has computed them."""
    return list(state.reports())


def batches(run: Run, *, size: int, crop: int, count: int = 4) -> list[Batch]:
    return generated(size=size, crop=crop, count=count, pinned=run.cuda)


@cache
def generated(*, size: int, crop: int, count: int, pinned: bool) -> list[Batch]:
    """Generated images and labels: rectangles of the class's colour with noise, some of it void."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 150, (CLASSES, 3), dtype=np.uint8)
    found = []
    for _ in range(count):
        labels = np.zeros((size, crop, crop), np.uint8)
        for label in labels:
            for _ in range(12):
                (top, left), side = rng.integers(0, crop, 2), rng.integers(crop // 8, crop // 2)
                label[top : top + side, left : left + side] = rng.choice([*range(CLASSES), VOID])
        noise = rng.integers(0, 100, (size, crop, crop, 1), dtype=np.uint8)
        pair = torch.from_numpy(colours[labels % CLASSES] + noise), torch.from_numpy(labels)
        found.append((pair[0].pin_memory(), pair[1].pin_memory()) if pinned else pair)
    return found


# --- bits: runs repeat --------------------------------------------------------------------------------------

BITS = {  # name: overrides
    **{
        f"v3+ {backbone} {precision}": [f"backbone={backbone}", f"trainer.precision={precision}"]
        for precision in ("bf16", "fp16", "fp32")
        for backbone in ("resnet50", "xception65", "mobilenetv2")
    },
    "v3 resnet50 bf16, ema": [
        "model=deeplabv3",
        "backbone=resnet50",
        "trainer.precision=bf16",
        "trainer.ema_decay=0.99",
    ],
    "lraspp mobilenetv3_large bf16, two passes": [
        "model=lraspp",
        "backbone=mobilenetv3_large",
        "trainer.precision=bf16",
        "trainer.accumulate=2",
    ],
    "v3+ mobilenetv2 bf16, two steps skipped": [
        "backbone=mobilenetv2",
        "trainer.precision=bf16",
        "trainer.on_nonfinite=skip",
    ],
}


def check_bits(run: Run) -> None:
    """Two runs, and one continued from its checkpoint by a new state, end with the same bits."""
    steps, size, crop = (4, 2, 65) if run.tiny else (20, 8, 513)
    data = batches(run, size=size, crop=crop)
    for name, overrides in BITS.items():
        if "fp16" in name and not run.cuda:
            continue  # slow on a CPU
        if not run.has(8, "bits", name):
            continue
        with run.isolated("bits", name):
            begin = time.perf_counter()
            settings = [
                f"augment.crop_size={crop}",
                f"trainer.batch_size={size}",
                f"schedule.max_iters={steps}",
            ]
            build = partial(ours, run, *overrides, *settings, "optimizer.lr=0.01")
            poison = (steps // 4, 3 * steps // 4) if "skipped" in name else ()
            first, losses, skipped = trained(build(), data, until=steps, poison=poison)
            hashes = fingerprints(first)
            del first
            second, *_ = trained(build(), data, until=steps, poison=poison)
            twice = fingerprints(second)
            del second
            resumed = fingerprints(continued(run, build, data, steps=steps, poison=poison))
            run.row(
                "bits",
                name,
                ok=hashes == twice == resumed and (not poison or skipped == len(poison)),
                twice=difference(hashes, twice),
                resumed=difference(hashes, resumed),
                loss=[loss for loss in losses if math.isfinite(loss)][-1],
                skipped=skipped,
                seconds=time.perf_counter() - begin,
            )


def trained(
    state: TrainState, data: Sequence[Batch], *, until: int, poison: Sequence[int] = ()
) -> tuple[TrainState, list[float], int]:
    """The state after its steps up to `until`, their losses, and how many were skipped. poison: numbers of
    steps whose loss is made NaN.
    """
    forward_loss = state.forward_loss

    def poisoned(images: Tensor, labels: Tensor) -> Tensor:
        loss = forward_loss(images, labels)
        return loss * float("nan") if state.step in poison else loss

    state.forward_loss = poisoned  # type: ignore[method-assign]
    updates = []
    while state.step < until:
        updates += advance(state, data[state.step % len(data)])
    updates += settle(state)
    return state, [update.loss for update in updates], sum(update.skipped for update in updates)


def continued(
    run: Run, build: Callable[..., TrainState], data: Sequence[Batch], *, steps: int, poison: Sequence[int]
) -> TrainState:
    """The same run, but saved after half of its steps and continued by a new state with other weights."""
    folder = run.work / "bits"
    half, *_ = trained(build(), data, until=steps // 2, poison=poison)
    path = checkpoints.save(half, folder, description={})
    del half
    state = build(seed=1)
    checkpoints.restore(state, checkpoints.verified(path))
    shutil.rmtree(folder)
    return trained(state, data, until=steps, poison=poison)[0]


def fingerprints(state: TrainState) -> dict[str, str]:
    """The sha256 of each tensor of model, optimizer and EMA."""
    tensors = {
        **{f"model {name}": tensor for name, tensor in state.model.state_dict().items()},
        **{f"optimizer {name}": tensor for name, tensor in state.optimizer_tensors().items()},
    }
    if state.average:
        tensors |= {f"average {name}": tensor for name, tensor in state.average.model.state_dict().items()}
    return {
        name: hashlib.sha256(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        ).hexdigest()
        for name, tensor in tensors.items()
    }


def difference(one: dict[str, str], other: dict[str, str]) -> str:
    differing = [name for name in one if one[name] != other.get(name)]
    if not differing:
        return "equal"
    return f"{len(differing)} of {len(one)} tensors differ, the first: {differing[0]}"


# --- command: a killed run ends with the same file ----------------------------------------------------------


def check_command(run: Run) -> None:
    """A whole run, and one that is killed after its checkpoint of step 20 and resumed."""
    settings = [
        "dataset=shapes",
        "backbone=resnet50",
        f"augment.crop_size={65 if run.tiny else 257}",
        f"trainer.batch_size={2 if run.tiny else 16}",
        "dataset.val_images=4",
        "trainer.samples=0",
        "trainer.log_every=5",
        "trainer.save_every=10",
        "trainer.eval_every=30",
        "schedule.max_iters=30",
    ]
    with run.isolated("command", "a run, start to end"):
        whole, seconds = run.work / "whole", time.perf_counter()
        deeplabx_process(run, "train", *settings, folder=whole).succeed()
        seconds = time.perf_counter() - seconds
        inner = json.loads((whole / "cost.json").read_text(encoding="utf-8"))["seconds"]
        run.row(
            "command",
            "a run, start to end",
            wall=seconds,
            after_start_up=inner,
            computing=computing_seconds(whole),
            steps=30,
        )
    with run.isolated("command", "killed and resumed"):
        killed = run.work / "killed"
        process = deeplabx_process(run, "train", *settings, folder=killed)
        at = kill_after(process, killed / "checkpoints" / "step-00000020")
        deeplabx_process(run, "resume", str(killed)).succeed()
        files = [last_weights(folder) for folder in (whole, killed)]
        run.row(
            "command",
            "killed and resumed",
            ok=files[0] == files[1] and at < 30,
            killed_at=f"about step {at}",
            model="equal" if files[0] == files[1] else "differs",
        )


class Command(NamedTuple):
    """A command of deeplabx that runs in a process of its own."""

    process: subprocess.Popen
    output: Path

    def succeed(self) -> str:
        """What it printed; RuntimeError unless it ends well."""
        code = self.process.wait(timeout=240)
        text = self.output.read_text(encoding="utf-8", errors="replace")
        if code:
            lines = text.splitlines()
            why = [line for line in lines if line.startswith("deeplabx:") or "Error" in line] or lines
            raise RuntimeError(f"exit code {code}: {' | '.join(why[-2:])}")
        return text


def deeplabx_process(
    run: Run, *words: str, folder: Path | None = None, launcher: Sequence[str] = ("-m", "deeplabx")
) -> Command:
    """Start `deeplabx words...`. folder: of the run that it makes."""
    output = run.work / f"output-{len(list(run.work.glob('output-*')))}"
    device = [] if run.cuda or "resume" in words or any("devices" in word for word in words) else ["cpu"]
    command = [
        sys.executable,
        *launcher,
        *words,
        *(f"trainer.devices={one}" for one in device),
        *([f"hydra.run.dir={folder}"] if folder else []),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=run.work, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    run.started.append(process)
    return Command(process, output)


def kill_after(command: Command, checkpoint: Path) -> int:
    """Kill a run once it has this checkpoint; the step that it last logged."""
    deadline = time.monotonic() + 120
    while not checkpoint.is_dir() and command.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    command.process.send_signal(signal.SIGKILL)
    command.process.wait()
    if not checkpoint.is_dir():
        raise RuntimeError(
            f"there is no {checkpoint.name}: {command.output.read_text(encoding='utf-8')[-500:]}"
        )
    lines = (checkpoint.parent.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return max(json.loads(line)["step"] for line in lines)


def last_weights(folder: Path) -> str:
    """The sha256 of the weights in the last checkpoint of a run."""
    last = max((folder / "checkpoints").glob("step-*"))
    return hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest()


def computing_seconds(folder: Path) -> float | None:
    found = re.search(r"time: (\d+) s computing", (folder / "train.log").read_text(encoding="utf-8"))
    return float(found[1]) if found else None


# --- sync: no step waits for the device ---------------------------------------------------------------------

SYNC = {
    "v3+ resnet50 bf16": ["backbone=resnet50", "trainer.precision=bf16"],
    "v3+ xception65 fp32, clip, ema": [
        "backbone=xception65",
        "trainer.precision=fp32",
        "trainer.clip_norm=1.0",
        "trainer.ema_decay=0.99",
    ],
    "v3+ mobilenetv2 fp16, skip": [
        "backbone=mobilenetv2",
        "trainer.precision=fp16",
        "trainer.on_nonfinite=skip",
        "trainer.ema_decay=0.99",
    ],
    "v3 resnet50 tf32, two passes, class weights": [
        "model=deeplabv3",
        "backbone=resnet50",
        "trainer.precision=tf32",
        "trainer.accumulate=2",
        f"loss.class_weights=[{','.join(['1.0', '2.0', '0.5'] * (CLASSES // 3))}]",
    ],
    "v2 resnet101_caffe bf16, three scales": [
        "model=deeplabv2",
        "backbone=resnet101_caffe",
        "model.scales=[1.0,0.75,0.5]",
        "trainer.precision=bf16",
    ],
    "lraspp mobilenetv3_large bf16, adamw": [
        "model=lraspp",
        "backbone=mobilenetv3_large",
        "trainer.precision=bf16",
        "optimizer=adamw",
    ],
}


def check_sync(run: Run) -> None:
    """Under torch's error mode every operation that waits for the device raises."""
    size, crop = (2, 65) if run.tiny else (4, 257)
    data = batches(run, size=size, crop=crop)
    for name, overrides in SYNC.items():
        if not run.cuda and ("tf32" in name or "fp16" in name):
            continue
        with run.isolated("sync", name):
            state = ours(run, *overrides, f"augment.crop_size={crop}", f"trainer.batch_size={size}")
            for batch in data[:3]:
                advance(state, batch)
            settle(state)
            try:
                if run.cuda:
                    torch.cuda.set_sync_debug_mode("error")
                for batch in data:
                    state.update(*batch)
            finally:
                if run.cuda:
                    torch.cuda.set_sync_debug_mode("default")
            run.row("sync", name, ok=True, losses=[update.loss for update in settle(state)])


# --- step: speed beside peers -------------------------------------------------------------------------------


class Peer:
    """Another library's model in a tuned training loop: bf16 autocast, channels_last, fused SGD, batches
    copied from pinned memory and normalised on the device, and no waiting.
    """

    def __init__(self, run: Run, model: nn.Module) -> None:
        model.to(run.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.device, self.model = run.device, model
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True
        )
        self.mean = torch.tensor(IMAGENET.mean, device=run.device)
        self.std = torch.tensor(IMAGENET.std, device=run.device)

    def step(self, batch: Batch) -> None:
        images, labels = (one.to(self.device, non_blocking=True) for one in batch)
        pixels = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.model(pixels)
            logits = logits["out"] if isinstance(logits, dict) else logits
            loss = F.cross_entropy(logits, labels.long(), ignore_index=VOID)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@dataclass
class Racer:
    """One of those whose steps are timed in turn. step: enqueues a step; end: what ends several of them."""

    name: str
    model: nn.Module
    step: Callable[[Batch], Any]
    end: Callable[[], Any] = field(default=lambda: None)
    seconds: list[float] = field(default_factory=list)  # of a step, by round
    memory: float | None = None  # GiB, at most
    idle: float | None = None  # share of the time without a kernel


def our_racer(run: Run, name: str, *overrides: str, crop: int, size: int) -> tuple[Racer, Racer]:
    """Ours, as it is and with `trainer.deterministic=false`: the same state."""
    state = ours(
        run,
        *overrides,
        "trainer.precision=bf16",
        f"augment.crop_size={crop}",
        f"trainer.batch_size={size}",
        "schedule.max_iters=100000",
        "optimizer.lr=0.001",
    )

    def step(batch: Batch, *, deterministic: bool) -> None:
        state.deterministic = deterministic
        advance(state, batch)

    return (
        Racer(name, state.model, partial(step, deterministic=True), partial(settle, state)),
        Racer(
            f"{name}, not deterministic",
            state.model,
            partial(step, deterministic=False),
            partial(settle, state),
        ),
    )


def peer_racer(run: Run, name: str, model: nn.Module) -> Racer:
    peer = Peer(run, model)
    return Racer(name, model, peer.step)


V3PLUS_OF_VAINF = ["model.decoder_convolutions=1", "model.separable=false", "model.align_corners=false"]
SINGLE_GRID = "backbone.multi_grid=[1,1,1]"


def check_step(run: Run) -> None:
    """Images per second, memory and idle share of ours, with and without determinism, and of peers."""
    for title, racers in {
        "v3+ resnet50": v3plus_resnet50,
        "v3+ mobilenetv2": v3plus_mobilenetv2,
        "v3 resnet50, stride 8": v3_resnet50,
        "v3+ xception65": v3plus_xception65,
        "v3+ resnet50, crop 512": smp_resnet50,
    }.items():
        if not run.has(20, "step", title):
            continue
        with run.isolated("step", title):
            crop = (64 if run.tiny else 512) + ("512" not in title)
            size = 2 if run.tiny else 16
            race(run, title, racers(run, crop=crop, size=size), batches(run, size=size, crop=crop), crop=crop)


def v3plus_resnet50(run: Run, *, crop: int, size: int) -> list[Racer]:
    sizes = {"crop": crop, "size": size}
    found = [*our_racer(run, "ours", "backbone=resnet50", **sizes)]
    model = vainf_model(run, "deeplabv3plus_resnet50")
    if model is None:
        return found
    same = our_racer(
        run, "ours at VainF's architecture", "backbone=resnet50", SINGLE_GRID, *V3PLUS_OF_VAINF, **sizes
    )
    return [*found, *same, peer_racer(run, "VainF", model)]


def v3plus_mobilenetv2(run: Run, *, crop: int, size: int) -> list[Racer]:
    """VainF's MobileNetV2 pads before the 1x1 convolution that expands, ours after it: the nearest settings
    still differ in a few multiply-adds.
    """
    sizes = {"crop": crop, "size": size}
    found = [*our_racer(run, "ours", "backbone=mobilenetv2", **sizes)]
    model = vainf_model(run, "deeplabv3plus_mobilenet")
    if model is None:
        return found
    same = our_racer(
        run,
        "ours nearest to VainF's architecture",
        "backbone=mobilenetv2",
        *V3PLUS_OF_VAINF,
        "model.atrous_rates=[6,12,18]",
        **sizes,
    )
    return [*found, same[0], peer_racer(run, "VainF", model)]


def v3_resnet50(run: Run, *, crop: int, size: int) -> list[Racer]:
    settings = [
        "model=deeplabv3",
        "backbone=resnet50",
        "backbone.output_stride=8",
        SINGLE_GRID,
        "model.head_convolution=true",
        "model.align_corners=false",
    ]
    found = [*our_racer(run, "ours at torchvision's architecture", *settings, crop=crop, size=size)]
    torchvision = imported(run, "torchvision.models.segmentation")
    if torchvision is None:
        return found
    model = torchvision.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES)
    return [*found, peer_racer(run, "torchvision", model)]


def v3plus_xception65(run: Run, *, crop: int, size: int) -> list[Racer]:
    return [*our_racer(run, "ours", "backbone=xception65", crop=crop, size=size)]


def smp_resnet50(run: Run, *, crop: int, size: int) -> list[Racer]:
    settings = ["backbone=resnet50", SINGLE_GRID, "model.decoder_convolutions=1", "model.separable=true"]
    found = [our_racer(run, "ours nearest to smp's architecture", *settings, crop=crop, size=size)[0]]
    smp = imported(run, "segmentation_models_pytorch")
    if smp is None:
        return found
    model = smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=CLASSES)
    return [*found, peer_racer(run, "smp", model)]


def imported(run: Run, name: str) -> Any | None:
    """A module, or None, noted, if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision without its operators
        run.leave_out(f"step: {name}", f"{type(error).__name__}: {' '.join(str(error).split())[:100]}")
        return None


def vainf_model(run: Run, name: str) -> nn.Module | None:
    if run.vainf is None:
        run.leave_out(f"step: VainF's {name}", "--peer-vainf is not given")
        return None
    sys.path.insert(0, str(run.vainf))
    try:
        modeling = importlib.import_module("network.modeling")
    finally:
        sys.path.remove(str(run.vainf))
    return getattr(modeling, name)(num_classes=CLASSES, output_stride=16, pretrained_backbone=False)


def race(run: Run, title: str, racers: list[Racer], data: list[Batch], *, crop: int) -> None:
    """Time the racers' steps in turn, and report the medians."""
    rounds, steps = (1, 1) if run.tiny else (4, 8)
    for racer in racers:
        seconds_of(run, racer, data, steps=1)
        if run.cuda:
            torch.cuda.reset_peak_memory_stats(run.device)
            held = torch.cuda.memory_allocated(run.device)  # weights and momentum of all of them
        seconds_of(run, racer, data, steps=0 if run.tiny else 4)
        if run.cuda:  # in a step; the momentum has the size of the weights
            own = sum(tensor.numel() * tensor.element_size() for tensor in racer.model.state_dict().values())
            racer.memory = (torch.cuda.max_memory_allocated(run.device) - held + 2 * own) / 2**30
    for _ in range(rounds):
        for racer in racers:
            racer.seconds.append(seconds_of(run, racer, data, steps=steps) / steps)
    first = statistics.median(racers[0].seconds)
    for racer in racers:
        if run.cuda:
            with run.isolated("step", f"{title}: idle share of {racer.name}"):
                racer.idle = idle_share(run, racer, data, steps=10)
        median = statistics.median(racer.seconds)
        parameters, multiply_adds = size_of(racer.model, crop=crop)
        run.row(
            "step",
            f"{title}: {racer.name}",
            images_per_second=len(data[0][0]) / median,
            ms=1000 * median,
            spread_ms=1000 * (max(racer.seconds) - min(racer.seconds)),
            relative_time=median / first,
            gib=racer.memory,
            idle=racer.idle,
            parameters_m=parameters,
            multiply_adds_g=multiply_adds,
        )


def seconds_of(run: Run, racer: Racer, data: list[Batch], *, steps: int) -> float:
    run.synchronize()
    begin = time.perf_counter()
    for number in range(steps):
        racer.step(data[number % len(data)])
    racer.end()
    run.synchronize()
    return time.perf_counter() - begin


NO_KERNELS = ("Memcpy", "Memset", "Optimizer.", "Context Sync", "Stream", "Event Sync")


def idle_share(run: Run, racer: Racer, data: list[Batch], *, steps: int) -> float:
    """The share of the time between the first and the last kernel of `steps` steps in which no kernel ran, as
    torch.profiler records them on the device. Copies do not count as kernels.
    """
    from torch.profiler import ProfilerActivity, profile

    seconds_of(run, racer, data, steps=2)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for number in range(steps):
            racer.step(data[number % len(data)])
        racer.end()
        run.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events() or ()
        if event.device_type.name == "CUDA"
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(NO_KERNELS)
    )
    busy = 0.0
    reached = spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - busy / (reached - spans[0][0])


def size_of(model: nn.Module, *, crop: int) -> tuple[float, float]:
    """Millions of parameters, and thousand millions of multiply-adds for an image of `crop` x `crop`."""
    training = model.training
    model.eval()
    found = billions(convolutions(model, height=crop, width=crop))
    model.train(training)
    return parameter_count(model) / 1e6, found


# --- ranks: several processes -------------------------------------------------------------------------------


def check_ranks(run: Run) -> None:
    """Two processes that share the card over gloo, and one over NCCL."""
    settings = [
        "dataset=shapes",
        f"augment.crop_size={33 if run.tiny else 129}",
        "trainer.batch_size=8",
        "dataset.val_images=8",
        "trainer.samples=0",
        "trainer.log_every=2",
        "trainer.save_every=10",
        "schedule.max_iters=20",
        "trainer.eval_every=10",
    ]
    two = ["trainer.devices=2", "trainer.backend=gloo", f"model.norm={'sync' if run.cuda else 'auto'}"]
    folders = {name: run.work / f"ranks-{name}" for name in ("one", "other", "killed", "torchrun")}
    started = {
        name: deeplabx_process(run, "train", *settings, *two, folder=folders[name])
        for name in ("one", "other", "killed")
    }
    with run.isolated("ranks", "two over gloo, resumed on one"):
        # Its processes die with the one that is killed.
        at = kill_after(started["killed"], folders["killed"] / "checkpoints" / "step-00000010")
        started["resumed"] = deeplabx_process(run, "resume", str(folders["killed"]), "trainer.devices=1")
    with run.isolated("ranks", "two over gloo, twice"):
        printed = [started[name].succeed() for name in ("one", "other")]
        files = [last_weights(folders[name]) for name in ("one", "other")]
        scores = [result_of(folders[name])["miou"] for name in ("one", "other")]
        run.row(
            "ranks",
            "two over gloo, twice",
            ok=files[0] == files[1] and scores[0] == scores[1],
            model="equal" if files[0] == files[1] else "differs",
            miou=f"{scores[0]:.4f} {scores[1]:.4f}",
            said=" | ".join(line for line in printed[0].splitlines() if "batch norm" in line)[:200],
        )
    if "resumed" in started:
        with run.isolated("ranks", "two over gloo, resumed on one"):
            said = [line for line in started["resumed"].succeed().splitlines() if "differ" in line]
            finished = (folders["killed"] / "DONE").is_file()
            run.row(
                "ranks",
                "two over gloo, resumed on one",
                ok=finished and bool(said),
                killed_at=f"about step {at}",
                finished=finished,
                said=said[0] if said else "not a word about bits",
            )
    with run.isolated("ranks", "torchrun, one process"):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "deeplabx"]
        alone = [] if run.cuda else ["trainer.devices=cpu"]
        deeplabx_process(
            run, "train", *settings, *alone, folder=folders["torchrun"], launcher=launcher
        ).succeed()
        run.row("ranks", "torchrun, one process", ok=(folders["torchrun"] / "DONE").is_file())
    with run.isolated("ranks", "DDP over NCCL, one process" if run.cuda else "DDP over gloo, one process"):
        one_rank(run)


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def one_rank(run: Run) -> None:
    """A group of one process: the model is wrapped all the same, and its steps have the bits of those without
    a group.
    """
    size, crop = (2, 65) if run.tiny else (4, 257)
    data = batches(run, size=size, crop=crop)
    build = partial(
        ours,
        run,
        "backbone=resnet50",
        "trainer.precision=bf16",
        f"augment.crop_size={crop}",
        f"trainer.batch_size={size}",
        "schedule.max_iters=3",
    )
    alone = fingerprints(trained(build(), data, until=3)[0])
    backend, unwrapped = "nccl" if run.cuda else "gloo", distributed.parallel

    def wrapped(model: nn.Module, device: torch.device) -> nn.Module:
        ids = [0] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    torch.distributed.init_process_group(
        backend, init_method=f"file://{run.work}/meeting", rank=0, world_size=1
    )
    distributed.parallel = wrapped
    try:
        grouped = fingerprints(trained(build(), data, until=3)[0])
    finally:
        distributed.parallel = unwrapped
        torch.distributed.destroy_process_group()
    run.row("ranks", f"DDP over {backend}, one process", ok=alone == grouped, bits=difference(alone, grouped))


# --- data: waiting for images -------------------------------------------------------------------------------


def check_data(run: Run) -> None:
    """The share of the time that a run waits for data, by the kind of file and the number of workers."""
    steps = 4 if run.tiny else 30
    for kind in ("png", "jpg"):
        root = run.work / f"street-{kind}"
        with run.isolated("data", f"writing {kind}"):
            megabytes = write_street(run, root, kind=kind)
        for workers in ("2", "6", "12", "auto") if kind == "png" else ("2", "6", "auto"):
            name = f"{kind}, {workers} workers"
            if not run.has(11, "data", name):
                continue
            with run.isolated("data", name):
                folder = run.work / f"data-{kind}-{workers}"
                folder.mkdir()
                settings = [
                    "dataset=folder",
                    f"dataset.root={root}",
                    "backbone=resnet50",
                    f"augment.crop_size={65 if run.tiny else 769}",
                    f"trainer.batch_size={2 if run.tiny else 8}",
                    f"trainer.workers={workers}",
                    f"trainer.precision={'bf16' if run.cuda else 'fp32'}",
                    f"trainer.devices={'auto' if run.cuda else 'cpu'}",
                    "trainer.samples=0",
                    f"trainer.log_every={2 if run.tiny else 5}",
                    "trainer.save_every=1000",
                    "trainer.eval_every=1000",
                    f"schedule.max_iters={steps}",
                ]
                try:
                    config = training_config(settings)
                except DeeplabxError as error:
                    run.leave_out(f"data: {name}", str(error))
                    continue
                begin = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()):
                    train(config, folder, overrides=settings)
                run.row(
                    "data", name, mb_per_image=megabytes, **waiting(folder), wall=time.perf_counter() - begin
                )


def waiting(folder: Path) -> dict[str, Any]:
    """What a run's log says of waiting. The first lines include the start of the workers."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [line for line in map(json.loads, lines) if "data_wait" in line]
    later = logged[len(logged) // 3 :]
    closing = [
        line
        for line in (folder / "train.log").read_text(encoding="utf-8").splitlines()
        if line.startswith("time:")
    ]
    return {
        "waiting": statistics.median(line["data_wait"] for line in later),
        "images_per_second": statistics.median(line["images_per_second"] for line in later),
        "said": closing[-1] if closing else "",
    }


def write_street(run: Run, root: Path, *, kind: str) -> float:
    """A data set of 2048 x 1024 images with the detail of photographs; megabytes of an image."""
    width, height, images = (256, 128, 6) if run.tiny else (2048, 1024, 32)
    for part in ("images/train", "images/val", "masks/train", "masks/val"):
        (root / part).mkdir(parents=True)
    (root / "classes.yaml").write_text(f"classes: {[f'c{n}' for n in range(19)]}\n", encoding="utf-8")

    def write(index: int) -> None:
        rng, split = np.random.default_rng(index), "val" if index < 2 else "train"
        coarse = rng.integers(0, 256, (height // 32, width // 32, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        image += rng.standard_normal(image.shape, dtype=np.float32) * 3
        regions = rng.integers(0, 19, (height // 64, width // 64)).astype(np.uint8)
        mask = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "images" / split / f"{index}.{kind}"), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / split / f"{index}.png"), mask)

    with ThreadPoolExecutor(distributed.cores()) as pool:
        list(pool.map(write, range(images)))
    written = list((root / "images").rglob(f"*.{kind}"))
    return sum(path.stat().st_size for path in written) / len(written) / 1e6


# --- eval: whole images -------------------------------------------------------------------------------------


class Street(SegmentationSet):
    """Images in memory, of Cityscapes' size."""

    def __init__(self, *, images: int, height: int, width: int) -> None:
        rng = np.random.default_rng(0)
        self.classes = [f"class {number}" for number in range(CLASSES)]
        self.palette: Palette = [(number, number, number) for number in range(CLASSES)]
        self.samples = [
            Sample(
                rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
                rng.integers(0, CLASSES, (height, width)).astype(np.uint8),
            )
            for _ in range(4)
        ]
        self.images = images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index % len(self.samples)]


def check_eval(run: Run) -> None:
    """Images per second of an evaluation of images in memory: network, upsampling, argmax, matrix."""
    height, width, images = (64, 128, 2) if run.tiny else (1024, 2048, 24)
    street = ReadableSet(Street(images=images, height=height, width=width))
    warm = ReadableSet(Street(images=2, height=height, width=width))
    for backbone in ("resnet101_beta", "xception65", "mobilenetv2"):
        with run.isolated("eval", backbone):
            config = training_config([f"backbone={backbone}"])
            model = model_of(config, num_classes=CLASSES, in_channels=3).eval()
            model.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for precision in ("fp32", "bf16"):
                predictor = Predictor(
                    model, model.backbone.normalization, run.device, dtype=AUTOCAST.get(precision)
                )
                evaluate(predictor, warm)
                run.synchronize()
                begin = time.perf_counter()
                evaluate(predictor, street)
                run.synchronize()
                run.row(
                    "eval",
                    f"v3+ {backbone} {precision}",
                    images_per_second=images / (time.perf_counter() - begin),
                )


# --- predict: images of any size ----------------------------------------------------------------------------


def check_predict(run: Run) -> None:
    """Prediction: the memory that is estimated and used, several images at once, windows where memory does
    not suffice, and the ids of a CPU.
    """
    side, small = (193, 65) if run.tiny else (2049, 513)
    rng = np.random.default_rng(0)
    for model, backbone in (
        ("deeplabv3plus", "mobilenetv2"),
        ("deeplabv3plus", "xception65"),
        ("deeplabv3", "resnet50"),
    ):
        name = f"{model} {backbone}"
        with run.isolated("predict", name):
            network = deeplabx.build_model(model, backbone=backbone, num_classes=CLASSES).eval()
            network.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            predictor = Predictor(
                network,
                network.backbone.normalization,
                run.device,
                num_classes=CLASSES,
                training_crop=small,
                window="auto",
            )
            large = np.kron(
                rng.integers(0, 256, (-(-side // 16), -(-side // 16), 3), dtype=np.uint8),
                np.ones((16, 16, 1), np.uint8),
            )[:side, :side]
            images = [np.ascontiguousarray(large[: small - 1, first : first + small]) for first in range(8)]
            alone = one_by_one(predictor, images)
            together = predictor.predict(images)
            same = [
                float((one == other.ids).float().mean()) for one, other in zip(alone, together, strict=True)
            ]
            on_cpu = replace(
                predictor, device=torch.device("cpu"), model=deepcopy(network).cpu(), budget=Budget()
            )
            whole, used = peak_of(run, partial(predictor.ids, large))
            windows, in_windows = peak_of(run, partial(replace(predictor, window=small).predict, [large]))
            run.row(
                "predict",
                name,
                ok=min(same) > 0.9999 and (not run.cuda or used <= predictor.needed(side, side)),
                equal_in_a_batch=min(same),
                equal_to_cpu=float((on_cpu.ids(images[0]) == alone[0].cpu()).float().mean()),
                equal_in_windows=float((windows[0].ids == whole).float().mean()),
                estimated_gib=predictor.needed(side, side) / 2**30,
                used_gib=used / 2**30,
                used_in_windows_gib=in_windows / 2**30,
                images_per_second=len(images) / seconds_for(run, partial(predictor.predict, images)),
                one_by_one=len(images) / seconds_for(run, partial(one_by_one, predictor, images)),
            )
        if run.cuda:
            with run.isolated("predict", f"{name}, little memory"):
                little = used * 0.5 + torch.cuda.memory_allocated()
                torch.cuda.empty_cache()
                torch.cuda.set_per_process_memory_fraction(
                    little / torch.cuda.get_device_properties(0).total_memory
                )
                try:
                    found = predictor.predict([large])[0]
                finally:
                    torch.cuda.set_per_process_memory_fraction(1.0)
                run.row(
                    "predict",
                    f"{name}, little memory",
                    ok=found.tiling is not None,
                    allowed_gib=little / 2**30,
                    windows=found.tiling.windows if found.tiling else 0,
                    equal_to_windows=float((found.ids == windows[0].ids).float().mean()),
                )


def one_by_one(predictor: Predictor, images: Sequence[np.ndarray]) -> list[Tensor]:
    return [predictor.ids(image) for image in images]


def peak_of(run: Run, function: Callable[[], Any]) -> tuple[Any, int]:
    """What a function returns, and the bytes of the GPU that it needs beside those that are taken."""
    if not run.cuda:
        return function(), 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = function()
    return found, torch.cuda.max_memory_allocated() - before


def seconds_for(run: Run, function: Callable[[], Any], *, times: int = 5) -> float:
    """The median of several."""
    found = []
    for _ in range(1 if run.tiny else times):
        run.synchronize()
        begin = time.perf_counter()
        function()
        run.synchronize()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


# --- flags: what precision means ----------------------------------------------------------------------------


def check_flags(run: Run) -> None:
    """The error of a convolution and of a matrix product within a step and within an evaluation; and the
    operators of a step that torch alerts for.
    """
    crop = 65
    data = batches(run, size=2, crop=crop, count=1)
    settings = ["backbone=resnet50", f"augment.crop_size={crop}", "trainer.batch_size=2"]
    for precision in ("fp32", "tf32") if run.cuda else ("fp32",):
        with run.isolated("flags", f"a step in {precision}"):
            state = ours(run, *settings, f"trainer.precision={precision}")
            found: dict[str, float] = {}
            forward_loss = state.forward_loss

            def watched(
                images: Tensor,
                labels: Tensor,
                found: dict[str, float] = found,
                forward_loss: Callable[..., Tensor] = forward_loss,
            ) -> Tensor:
                loss = forward_loss(images, labels)
                found.update({f"{name} forward": error for name, error in product_errors(run).items()})

                def backward(gradient: Tensor) -> Tensor:
                    found.update({f"{name} backward": error for name, error in product_errors(run).items()})
                    return gradient

                loss.register_hook(backward)
                return loss

            state.forward_loss = watched  # type: ignore[method-assign]
            advance(state, data[0])
            settle(state)
            run.row("flags", f"a step in {precision}", ok=as_promised(found, precision), **found)
    with run.isolated("flags", "an evaluation in fp32"):
        model = ours(run, *settings, "trainer.precision=fp32").model.eval()
        found = {}
        model.register_forward_hook(lambda *_: found.update(product_errors(run)))
        image = data[0][0][0].numpy()
        Predictor(model, model.backbone.normalization, run.device).ids(image)
        run.row("flags", "an evaluation in fp32", ok=as_promised(found, "fp32"), **found)
    with run.isolated("flags", "torch's alerts"):
        alerts = alerts_of_steps(run, data[0], settings)
        run.row("flags", "torch's alerts", alerts=", ".join(sorted(alerts)) or "none")


def as_promised(errors: dict[str, float], precision: str) -> bool:
    """Whether products have float32's error, or TF32's, with its 10-bit mantissas."""
    return bool(errors) and all(
        error < 1e-5 if precision == "fp32" else error > 1e-4 for error in errors.values()
    )


@torch.no_grad()
def product_errors(run: Run) -> dict[str, float]:
    """The largest error of float32 products, relative to the largest value of the same in float64."""
    generator = torch.Generator(run.device).manual_seed(0)
    draw = partial(torch.randn, device=run.device, generator=generator)
    channels, side = (64, 33) if run.tiny else (256, 65)
    image, kernel = draw(2, channels, side, side), draw(channels, channels, 3, 3)
    matrix = draw(1024, 1024)
    with torch.autocast(run.device.type, enabled=False):
        pairs = {
            "convolution": (F.conv2d(image, kernel), F.conv2d(image.double(), kernel.double())),
            "matmul": (matrix @ matrix, matrix.double() @ matrix.double()),
        }
    return {name: relative(one, exact) for name, (one, exact) in pairs.items()}


def relative(one: Tensor, exact: Tensor) -> float:
    return float((one.double() - exact).abs().max() / exact.abs().max())


def alerts_of_steps(run: Run, batch: Batch, settings: Sequence[str]) -> set[str]:
    """The operators that torch warns of, as without a deterministic kernel, during steps of several models,
    whether or not they repeat; on a CPU there are none.
    """
    found = set()
    for overrides in (
        ["backbone=resnet50"],
        ["model=lraspp", "backbone=mobilenetv3_large", "model.pooling=33"],
        ["model=deeplabv2", "backbone=resnet18", "model.scales=[1.0,0.5]"],
    ):
        state = ours(run, *settings[1:], *overrides, "trainer.precision=bf16", "trainer.deterministic=false")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.use_deterministic_algorithms(True, warn_only=True)
            try:
                advance(state, batch)
                settle(state)
            finally:
                torch.use_deterministic_algorithms(False)
        found |= {
            str(warning.message).split(" does not have")[0].split()[-1]
            for warning in caught
            if "does not have a deterministic" in str(warning.message)
        }
        found |= {"cuBLAS workspace" for warning in caught if "CuBLAS" in str(warning.message)}
    return found


# --- resize: our own backward -------------------------------------------------------------------------------


def check_resize(run: Run) -> None:
    """Values and gradients of our bilinear resize beside F.interpolate's, and their times."""
    for before, after, channels in ((129, 513, 21), (33, 129, 256), (1, 33, 256)):
        for dtype in (torch.float32, torch.bfloat16):
            for memory in (torch.channels_last, torch.contiguous_format):
                kind = f"{str(dtype).removeprefix('torch.')} {str(memory).removeprefix('torch.')}"
                name = f"{before} to {after}, {channels} channels, {kind}"
                # A CPU takes the path of a GPU here.
                own = mock.patch.object(resize, "needs_own_backward", lambda x: x.requires_grad)
                with run.isolated("resize", name), own, computing(run.device):
                    one_resize(
                        run, name, before=before, after=after, channels=channels, dtype=dtype, memory=memory
                    )


def one_resize(
    run: Run,
    name: str,
    *,
    before: int,
    after: int,
    channels: int,
    dtype: torch.dtype,
    memory: torch.memory_format,
) -> None:
    images = 1 if run.tiny else 16
    generator = torch.Generator(run.device).manual_seed(0)
    draw = partial(torch.randn, device=run.device, generator=generator)
    x = draw(images, channels, before, before).to(dtype).to(memory_format=memory).requires_grad_()
    gradient = draw(images, channels, after, after).to(dtype).to(memory_format=memory)
    mine = partial(resize.resize, size=(after, after))
    theirs = partial(F.interpolate, size=(after, after), mode="bilinear")

    def both(function: Callable[..., Tensor], align_corners: bool) -> tuple[Tensor, Tensor]:
        x.grad = None
        y = function(x, align_corners=align_corners)
        y.backward(gradient)
        assert x.grad is not None
        return y.detach(), x.grad

    equal, errors, native_errors = True, [], []
    for align_corners in (True, False):
        y, own = both(mine, align_corners)
        same, native = both(theirs, align_corners)
        exact = x.detach().double().requires_grad_()
        theirs(exact, align_corners=align_corners).backward(gradient.double())
        assert exact.grad is not None
        equal = equal and torch.equal(y, same)
        errors.append(relative(own, exact.grad))
        native_errors.append(relative(native, exact.grad))
        del exact
    times = [milliseconds(run, partial(both, function, True)) for function in (mine, theirs)]
    # In float32 the interpolation's weights are rounded, in the native gradient as in ours.
    limit = max(1e-5, 1.5 * max(native_errors)) if dtype == torch.float32 else 1e-2
    run.row(
        "resize",
        name,
        ok=equal and max(errors) < limit,
        values="equal" if equal else "differ",
        gradient_error=max(errors),
        native_error=max(native_errors),
        ms=times[0],
        native_ms=times[1],
        ratio=times[0] / times[1],
    )


def milliseconds(run: Run, function: Callable[[], Any]) -> float:
    """The median of several calls, of the device's time."""
    for _ in range(2):
        function()
    found = []
    for _ in range(2 if run.tiny else 7):
        run.synchronize()
        begin = time.perf_counter()
        function()
        run.synchronize()
        found.append(1000 * (time.perf_counter() - begin))
    return statistics.median(found)


# --- all of them --------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """seconds: an estimate for an H100."""

    run: Callable[[Run], None]
    seconds: float


CHECKS = {  # in order of importance
    "bits": Check(check_bits, 90),
    "command": Check(check_command, 50),
    "sync": Check(check_sync, 20),
    "step": Check(check_step, 80),
    "ranks": Check(check_ranks, 60),
    "data": Check(check_data, 75),
    "eval": Check(check_eval, 20),
    "predict": Check(check_predict, 40),
    "flags": Check(check_flags, 10),
    "resize": Check(check_resize, 15),
}
SHORT = 20  # seconds: for checks that take no longer, time is kept


def chosen(only: str) -> list[str]:
    names = [name for name in only.split(",") if name] or list(CHECKS)
    for name in names:
        if name not in CHECKS:
            raise SystemExit(f"--only {name}: the checks are {', '.join(CHECKS)}")
    return names


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="JSON file of the results")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="the checks to run; default: all")
    parser.add_argument("--list", action="store_true", help="list the checks and exit")
    parser.add_argument("--seconds", type=float, default=400, help="time for all checks; default: 400")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small sizes and few steps, to try this file")
    parser.add_argument("--peer-vainf", type=Path, metavar="DIR", help="a clone of VainF's repository")
    return parser.parse_args()


def main() -> int:
    """0 if everything is as promised, else 1."""
    given = arguments()
    if given.list:
        for name, check in CHECKS.items():
            print(f"{name:8} about {check.seconds:.0f} s: {(check.run.__doc__ or '').split('.')[0].strip()}")
        return 0
    names = chosen(given.only)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU; --device cpu --tiny runs what a CPU can")
    fix_workspace()
    device = torch.device("cuda", 0) if given.device == "cuda" else torch.device("cpu")
    with tempfile.TemporaryDirectory() as work:
        run = Run(
            device,
            given.tiny,
            given.out.resolve(),
            deadline=time.perf_counter() + given.seconds,
            vainf=given.peer_vainf.resolve() if given.peer_vainf else None,
            work=Path(work),
        )
        run.say(", ".join(f"{name} {value}" for name, value in run.results["machine"].items()))
        try:
            perform(run, names)
        finally:
            for process in run.started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its own group: what it left behind, too
        run.results["took"] = round(time.perf_counter() - run.began, 1)
        run.write()
        failed = run.results["failed"]
        run.say(
            f"done: {len(run.results['rows'])} results in {run.out}; failed: {', '.join(failed) or 'none'}"
        )
    return int(bool(failed))


def perform(run: Run, names: Sequence[str]) -> None:
    for name in names:
        check = CHECKS[name]
        later = names[names.index(name) + 1 :]
        run.reserved = sum(CHECKS[one].seconds for one in later if CHECKS[one].seconds <= SHORT)
        if not run.has(min(check.seconds, SHORT), name, "all of it"):
            continue
        with run.isolated(name, "all of it"):
            check.run(run)


if __name__ == "__main__":
    sys.exit(main())
