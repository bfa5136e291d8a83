"""Whether an exported file computes what the model does: its logits and ids, and its mIoU on a split."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.engine.metrics import Metrics
from deeplabx.errors import CheckpointError, listed

LOGITS = 1e-4  # largest difference of a logit, relative to the largest logit: of float32, 1e-6 is usual
EQUAL_IDS = 0.9999  # least share of pixels with the same id, ties apart
MIOU = 1e-4  # largest difference of the mIoU
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """A file against the model on some images of one size.

    logits: largest difference, relative to the model's largest logit; None of a file of ids. equal_ids: share
    of pixels with the same id; a tie, where the model's two largest logits are closer than the bound on
    logits, counts as equal. ties: number of pixels that count as equal for this.
    """

    what: str
    images: int
    height: int
    width: int
    logits: float | None
    equal_ids: float
    ties: int

    def __str__(self) -> str:
        size = f"{self.images} x {self.height} x {self.width}"
        logits = "" if self.logits is None else f"logits within {self.logits:.1e}, "
        ties = f" ({self.ties} ties)" if self.ties else ""
        return f"{self.what} ({size}): {logits}equal ids {self.equal_ids:.4%}{ties}"

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)


def sizes(stride: int) -> dict[str, tuple[int, int, int]]:
    """Images, height and width where exports go wrong, for a network of this output stride."""
    return {
        "one pixel above a stride": (1, 8 * stride + 1, 8 * stride + 1),
        "odd": (1, 5 * stride + 7, 5 * stride + 7),
        "not square": (1, 4 * stride, 9 * stride),
        "features of 1 x 1": (1, stride, stride),
        "batch of 2": (2, 3 * stride + 2, 6 * stride - 5),
    }


def random_image(height: int, width: int, channels: int, *, seed: int) -> np.ndarray:
    """uint8 H x W x channels with the spectrum of photographs: amplitude falls as 1 / frequency. Channels
    differ, so that a swap shows.
    """
    generator = np.random.default_rng([SEED, seed])
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width, 2))
    noise = generator.normal(size=(2, channels, *frequency.shape))
    spectrum = (noise[0] + 1j * noise[1]) / frequency
    field = np.fft.irfft2(spectrum, s=(height, width))
    spread = field.std(axis=(1, 2), keepdims=True) + 1e-9
    middle = generator.uniform(64, 192, size=(channels, 1, 1))
    pixels = middle + 48 * (field - field.mean(axis=(1, 2), keepdims=True)) / spread
    return np.ascontiguousarray(pixels.clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0))


def natural_images(stride: int, channels: int) -> Iterator[tuple[str, np.ndarray]]:
    """uint8 N x H x W x channels of each of the sizes, with its name."""
    for number, (what, (images, height, width)) in enumerate(sizes(stride).items()):
        made = [random_image(height, width, channels, seed=10 * number + one) for one in range(images)]
        yield what, np.stack(made)


@torch.inference_mode()
def compared(
    what: str,
    images: np.ndarray,
    *,
    model: nn.Module,
    normalization: Normalization,
    network: nn.Module,
    preprocess: bool,
) -> Comparison:
    """An exported network against the model it comes from. images: uint8 N x H x W x channels. preprocess:
    whether the network takes them as they are. Raises CheckpointError if its output has another size.
    """
    pixels = torch.from_numpy(images)
    expected = model(normalization(pixels)).float()
    found = network(pixels if preprocess else normalization(pixels).contiguous())
    ids = found.shape[1] == 1 and not found.is_floating_point()
    channels = 1 if ids else expected.shape[1]
    count, height, width = images.shape[:3]
    if tuple(found.shape) != (count, channels, height, width):
        raise CheckpointError(
            f"{what}: the exported file gives {tuple(found.shape)} for {count} images of {height} x {width}"
        )
    largest = float(expected.abs().max())
    difference = None if ids else relative(found - expected, largest)
    top = expected.topk(min(2, expected.shape[1]), dim=1)
    own = found[:, 0].long() if ids else found.argmax(dim=1)
    differ = own != top.indices[:, 0]
    if expected.shape[1] > 1:
        close = top.values[:, 0] - top.values[:, 1] <= LOGITS * largest
        tie = differ & close & (own == top.indices[:, 1])
    else:
        tie = torch.zeros_like(differ)
    equal = 1 - float((differ & ~tie).float().mean())
    return Comparison(what, count, height, width, difference, equal, int(tie.sum()))


def relative(difference: Tensor, largest: float) -> float:
    found = float(difference.abs().max()) / max(largest, 1e-12)
    return found if math.isfinite(found) else math.inf


def refuse_different(comparisons: Sequence[Comparison], *, file: str) -> None:
    """Raise CheckpointError for the first comparison beyond a bound: where, how much, and which bound."""
    for one in comparisons:
        size = f"{one.what} ({one.images} x {one.height} x {one.width})"
        if one.logits is not None and not one.logits <= LOGITS:
            raise CheckpointError(
                f"{file} differs from the model at {size}: its logits by {one.logits:.1e} of the largest "
                f"logit, bound {LOGITS:.0e}; {one.equal_ids:.2%} of the ids are equal",
                hint="no file is left; please report the model's settings as an issue",
            )
        if one.equal_ids < EQUAL_IDS:
            raise CheckpointError(
                f"{file} differs from the model at {size}: {one.equal_ids:.3%} of the ids are equal, bound "
                f"{EQUAL_IDS:.2%}",
                hint="no file is left; please report the model's settings as an issue",
            )


# --- on a split ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitComparison:
    """The metrics of a split: of the model, and of the exported file."""

    split: str
    model: Metrics
    file: Metrics

    @property
    def lost(self) -> float:
        """mIoU of the model less that of the file."""
        return self.model.miou - self.file.miou

    @property
    def differences(self) -> dict[str, float]:
        """Of the IoU of each class that both have: that of the file less that of the model."""
        pairs = ((name, iou, self.file.per_class_iou[name]) for name, iou in self.model.per_class_iou.items())
        return {name: file - model for name, model, file in pairs if model is not None and file is not None}

    @property
    def new(self) -> list[str]:
        """Classes that no label has and only the file predicts: each lowers its mIoU by a whole class."""
        ious = self.model.per_class_iou
        return [
            name for name, iou in self.file.per_class_iou.items() if iou is not None and ious[name] is None
        ]

    def __str__(self) -> str:
        same = self.model.confusion_sha256 == self.file.confusion_sha256
        return (
            f"split {self.split}, {self.model.images} images: mIoU {self.model.miou:.6f} of the model, "
            f"{self.file.miou:.6f} of the file; confusion matrices {'equal' if same else 'differ'}"
        )

    def to_plain(self) -> dict[str, Any]:
        def plain(one: Metrics) -> dict[str, Any]:
            keys = ("miou", "miou_gt_only", "per_class_iou", "confusion_sha256", "images")
            return {key: getattr(one, key) for key in keys}

        return {
            "split": self.split,
            "miou_lost": self.lost,
            "model": plain(self.model),
            "file": plain(self.file),
        }


def refuse_other_metrics(found: SplitComparison, *, file: str) -> None:
    """Raise CheckpointError where mIoU differs by more than the bound of float32, or the IoU of a class by
    what alone would move the mIoU so far. A tighter bound would fail by one pixel of a rare class; without
    one, classes that gain could hide others that lose.
    """
    bound = MIOU * max(len(found.differences), 1)
    absent = [
        name
        for name, iou in found.model.per_class_iou.items()
        if (iou is None) != (found.file.per_class_iou[name] is None)
    ]
    wrong = [name for name, value in found.differences.items() if not abs(value) <= bound]
    if abs(found.lost) <= MIOU and not wrong and not absent:
        return
    named = listed([f"{name} {found.differences.get(name, math.nan):+.5f}" for name in [*wrong, *absent]], 4)
    raise CheckpointError(
        f"{file} scores mIoU {found.file.miou:.6f} on split {found.split}, the model {found.model.miou:.6f}; "
        f"bound {MIOU:.0e}" + (f"; classes beyond {bound:.0e}: {named}" if named else ""),
        hint="no file is left; please report the model's settings as an issue",
    )


def refuse_loss(found: SplitComparison, *, most: float, file: str) -> None:
    """Raise CheckpointError where int8 lost more mIoU than `most`."""
    if found.lost <= most:
        return
    worst = sorted(found.differences.items(), key=lambda pair: pair[1])[:3]
    named = ", ".join(f"{name} {value:+.3f}" for name, value in worst)
    absent = f"; IoU 0 because no label has it: {listed(found.new, 4)}" if found.new else ""
    raise CheckpointError(
        f"{file} scores mIoU {found.file.miou:.4f} on split {found.split}, the model {found.model.miou:.4f}: "
        f"{found.lost:.4f} lost, max_loss={most}; most in {named}{absent}",
        hint="no file is left; more calibration_images=, another format=, or a larger max_loss= may do",
    )
