"""Prediction for training, eval and predict: whole images at their original size, or windows; several scales
and flip.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplabx.backbone.normalization import Normalization
from deeplabx.engine.kernels import computing
from deeplabx.errors import LESS_FOR_PREDICTION, DataError, memory_error
from deeplabx.model.crf import DenseCRF
from deeplabx.process.signals import StopRequest

WINDOW_OVERLAP = 1 / 3  # of the window's side


class InterruptedPredictionError(Exception):
    """The prediction of an image was interrupted by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Predictor:
    """uint8 images to class ids, on one device, in IEEE float32, TF32 (`tf32`) or the given `dtype`.

    crop: (height, width) to which smaller images are padded on the right and bottom with the mean pixel;
    logits are cropped back, labels are never resized. window: side of square windows that overlap by a third;
    None for the whole image. With several scales or flip, probabilities are averaged. crf: refines the
    probabilities, at the image's original size. stop: checked before each pass of the network. gives_ids:
    whether the model gives ids N x 1 x H x W instead of logits, as some exported files do; there are then no
    scores to average or refine.
    """

    model: nn.Module
    normalization: Normalization
    device: torch.device
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    window: int | None = None
    crop: tuple[int, int] | None = None
    crf: DenseCRF | None = None
    dtype: torch.dtype | None = None
    stop: StopRequest | None = None
    tf32: bool = False
    gives_ids: bool = False

    @torch.inference_mode()
    def ids(self, image: np.ndarray) -> Tensor:
        """uint8 H x W x channels to int64 ids H x W, on the device. Raises DataError when the image does not
        have the model's number of channels, ResourceError when memory does not suffice, and
        InterruptedPredictionError at a stop signal.
        """
        expected = len(self.normalization.mean)
        if image.shape[2] != expected:
            raise DataError(f"the image has {image.shape[2]} channels, the model needs {expected}")
        try:
            with computing(self.device, tf32=self.tf32):
                return self.ids_of(image)
        except (MemoryError, RuntimeError) as error:
            full = memory_error(error, hint=LESS_FOR_PREDICTION)
            if full is None:
                raise
            height, width = image.shape[:2]
            full.message += f", for an image of {width} x {height} pixels"
            raise full from None

    def ids_of(self, image: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device)[None]
        if self.gives_ids:
            return self.forward(pixels)[0, 0].long()
        scores = self.views(pixels)
        if self.crf is not None:
            scores = self.crf(pixels[0], (scores.softmax(dim=1) if self.one_view else scores)[0])[None]
        return scores.max(dim=1).indices[0]  # on 1 x 11 x 360 x 480, contiguous, argmax took 35 ms and max 4

    def views(self, image: Tensor) -> Tensor:
        """Scores 1 x C x H x W: logits of the one view, or the mean probability of several."""
        if self.one_view:
            return self.logits(image)
        height, width = image.shape[1:3]
        flips = (False, True) if self.flip else (False,)
        total = torch.zeros(())
        for scale in self.scales:
            view = resized(image, scale)
            for flipped in flips:
                logits = self.logits(view.flip(2) if flipped else view)
                logits = logits.flip(3) if flipped else logits
                logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)
                total = logits.softmax(dim=1) if total.ndim == 0 else total.add_(logits.softmax(dim=1))
        return total.div_(len(self.scales) * len(flips))

    @property
    def one_view(self) -> bool:
        """Whether there is a single view of the image: one scale, no flip."""
        return tuple(self.scales) == (1.0,) and not self.flip

    def logits(self, image: Tensor) -> Tensor:
        """uint8 1 x H x W x channels to float32 logits 1 x C x H x W."""
        if self.window is None:
            return self.forward(image)
        height, width = image.shape[1:3]
        window = self.window
        total, counts = torch.zeros(()), torch.zeros(height, width, device=self.device)
        for top in window_starts(height, window):
            for left in window_starts(width, window):
                part = self.forward(
                    image[:, top : top + window, left : left + window], least=(window, window)
                )
                if total.ndim == 0:
                    total = torch.zeros(1, part.shape[1], height, width, device=self.device)
                total[:, :, top : top + window, left : left + window] += part
                counts[top : top + window, left : left + window] += 1
        return total / counts

    def forward(self, image: Tensor, *, least: tuple[int, int] | None = None) -> Tensor:
        """One forward pass on an image padded to `least`, or to `crop`; logits are cropped to the image."""
        if self.stop is not None and self.stop.number is not None:
            raise InterruptedPredictionError(self.stop.number)
        height, width = image.shape[1:3]
        least = least or self.crop or (1, 1)
        padded = pad(image, max(height, least[0]), max(width, least[1]), self.normalization.pad_pixel)
        images = self.normalization(padded)
        with torch.autocast(
            self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None
        ):
            logits = self.model(images)
        return logits[:, :, :height, :width].float()


def resized(image: Tensor, scale: float) -> Tensor:
    """A uint8 image 1 x H x W x channels scaled bilinearly, antialiased when it shrinks."""
    if scale == 1.0:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[1:3]]
    scaled = F.interpolate(image.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=scale < 1)
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def pad(image: Tensor, height: int, width: int, pixel: Sequence[int]) -> Tensor:
    """Pad an image 1 x h x w x channels with `pixel` on the right and bottom, to 1 x height x width x
    channels.
    """
    if tuple(image.shape[1:3]) == (height, width):
        return image
    padded = torch.tensor(pixel, dtype=image.dtype, device=image.device).expand(1, height, width, -1).clone()
    padded[:, : image.shape[1], : image.shape[2]] = image
    return padded


def window_starts(length: int, window: int) -> list[int]:
    """Start positions of windows that cover `length`; the last window ends at `length`."""
    if length <= window:
        return [0]
    stride = max(1, int(window * (1 - WINDOW_OVERLAP)))
    return [*range(0, length - window, stride), length - window]
