"""Prediction for training, eval and predict: whole images at their original size, or windows; several scales
and flip.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from deeplabx.backbone.normalization import Normalization
from deeplabx.dataset.contract import MOST_IN_8_BITS, ignore_index_of
from deeplabx.engine.footprint import REAL_TO_LIVE, UNKNOWN, Budget, fitting, free_on
from deeplabx.engine.kernels import computing
from deeplabx.engine.windows import ArraySource, Band, Blend, Grid, Source, chunks
from deeplabx.errors import (
    LESS_FOR_PREDICTION,
    ConfigError,
    DataError,
    ResourceError,
    byte_words,
    memory_error,
)
from deeplabx.model.crf import DenseCRF
from deeplabx.process.distributed import is_main
from deeplabx.process.memory import Free
from deeplabx.process.signals import StopRequest

USUAL_CROP = 513  # of the papers: the side of a window where the training crop is not known
# Four images of 129 to 513 pixels at once took a CPU as long as one by one, and more memory.
MOST_AT_ONCE = {"cpu": 1}
MOST_ELSEWHERE = 16


class InterruptedPredictionError(Exception):
    """The prediction of an image was interrupted by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Tiling(NamedTuple):
    """How an image was predicted in windows. overlapped: pixels that at least two windows cover; differing:
    those of them to which two windows alone would have given different classes.
    """

    window: int
    windows: int
    overlapped: int
    differing: int

    @property
    def share(self) -> float:
        """The part of the overlapped pixels whose class depends on where the windows are."""
        return self.differing / self.overlapped if self.overlapped else 0.0

    @property
    def words(self) -> str:
        return (
            f"{self.windows} windows of {self.window} x {self.window}; {100 * self.share:.2f} % of the "
            "pixels that two of them cover got different classes from them"
        )


class Prediction(NamedTuple):
    """Of an image H x W: int64 ids H x W and, if they were asked for, probabilities C x H x W, on the device.
    tiling: None of an image that was predicted whole. confidence: if it was asked for, the probability of the
    predicted class, float32 H x W.
    """

    ids: Tensor
    probabilities: Tensor | None
    tiling: Tiling | None = None
    confidence: Tensor | None = None


class Wanted(NamedTuple):
    """What is wanted of an image beside its ids."""

    probabilities: bool
    confidence: bool


@dataclass(frozen=True)
class Predictor:
    """uint8 images to class ids, on one device, in IEEE float32, TF32 (`tf32`) or the given `dtype`.

    crop: (height, width) to which smaller images are padded on the right and bottom with the mean pixel;
    logits are cropped back, labels are never resized. window: side of square windows that overlap by a third;
    None for the whole image; auto for the whole image where it fits into the free memory, else windows of the
    side `training_crop`, except for a model that gives ids. batch: most images or windows in one pass; None:
    as memory allows. With several scales or flip, probabilities are averaged. crf: refines the probabilities,
    at the image's original size. stop: checked before each pass of the network. gives_ids: whether the model
    gives ids N x 1 x H x W, not logits, as some exported files do; there are then no scores to average, blend
    or refine.
    """

    model: nn.Module
    normalization: Normalization
    device: torch.device
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    window: int | str | None = None
    crop: tuple[int, int] | None = None
    crf: DenseCRF | None = None
    dtype: torch.dtype | None = None
    stop: StopRequest | None = None
    tf32: bool = False
    training_crop: int | None = None
    num_classes: int | None = None
    batch: int | None = None
    gives_ids: bool = False
    budget: Budget = field(default_factory=Budget, compare=False, repr=False)

    def ids(self, image: np.ndarray) -> Tensor:
        """uint8 H x W x channels to int64 ids H x W, on the device. Raises as `predict`."""
        return self.predict([image])[0].ids

    @torch.inference_mode()
    def predict(
        self, images: Sequence[np.ndarray], *, probabilities: bool = False, confidence: bool = False
    ) -> list[Prediction]:
        """uint8 images H x W x channels to ids and, if wanted, probabilities or those of the predicted class
        alone. Images of one size are computed together where memory allows. Raises DataError when an image
        does not have the model's number of channels, ResourceError when memory does not suffice, and
        InterruptedPredictionError at a stop signal.
        """
        for image in images:
            self.refuse_other_channels(image.shape[2])
        if probabilities or confidence:
            self.refuse_ids("has no probabilities")
        wanted = Wanted(probabilities, confidence)
        found: dict[int, Prediction] = {}
        windows = [self.window_for(*image.shape[:2]) for image in images]
        whole = [index for index, window in enumerate(windows) if window is None]
        groups: defaultdict[tuple, list[int]] = defaultdict(list)
        for index in whole:
            groups[self.padded_sizes(images[index])].append(index)
        for same in groups.values():
            height, width = np.max([images[index].shape[:2] for index in same], axis=0)
            for part in chunks(same, self.at_once(height, width) if len(same) > 1 else 1):
                together = self.whole([images[index] for index in part], wanted)
                found.update(zip(part, together, strict=True))
        for index, window in enumerate(windows):
            if window is not None:
                found[index] = self.in_windows(images[index], window, wanted)
        return [found[index] for index in range(len(images))]

    def refuse_other_channels(self, channels: int) -> None:
        expected = len(self.normalization.mean)
        if channels != expected:
            raise DataError(f"the image has {channels} channels, the model needs {expected}")

    def refuse_ids(self, words: str) -> None:
        """Raise ConfigError where the model gives ids."""
        if self.gives_ids:
            raise ConfigError(
                f"the model gives class ids: it {words}", hint="deeplabx export RUN output=logits can do that"
            )

    # --- whole images ---------------------------------------------------------------------------------------

    def whole(self, images: Sequence[np.ndarray], wanted: Wanted) -> list[Prediction]:
        """Images that are padded to one size. Where memory does not suffice for all of them, it is tried with
        fewer at once; with `window=auto`, at last with windows.
        """
        try:
            with computing(self.device, tf32=self.tf32):
                return self.of_scores(images, wanted)
        except (MemoryError, RuntimeError) as error:
            full = memory_error(error, hint=LESS_FOR_PREDICTION)
            if full is None:
                raise
        # The memory of the tensors above is free only here, where the error is gone.
        height, width = images[0].shape[:2]
        if len(images) > 1:
            self.take_fewer(len(images), full)
            parts = chunks(range(len(images)), math.ceil(len(images) / 2))
            return [one for part in parts for one in self.whole([images[index] for index in part], wanted)]
        if self.window == "auto":
            window = self.usual_window
            self.say(f"{full.message}, for an image of {width} x {height} pixels: predicting it in windows")
            self.return_memory()
            return [self.in_windows(images[0], window, wanted)]
        full.message += f", for an image of {width} x {height} pixels"
        raise full

    def of_scores(self, images: Sequence[np.ndarray], wanted: Wanted) -> list[Prediction]:
        pixels = [self.on_device(image) for image in images]
        return [
            self.prediction(one, scores, wanted)
            for one, scores in zip(pixels, self.views(pixels), strict=True)
        ]

    def on_device(self, image: np.ndarray) -> Tensor:
        """uint8 1 x H x W x channels."""
        return torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device)[None]

    def prediction(self, pixels: Tensor, scores: Tensor, wanted: Wanted) -> Prediction:
        """Ids from the scores 1 x C x H x W of an image."""
        if self.gives_ids:
            return Prediction(scores[0, 0].long(), None)
        if self.crf is not None:
            scores = self.crf(pixels[0], (scores.softmax(dim=1) if self.one_view else scores)[0])[None]
        # on 1 x 11 x 360 x 480, contiguous, argmax took 35 ms and max 4
        highest, classes = (found[0] for found in scores.max(dim=1))
        logits = self.one_view and self.crf is None
        confidence = None
        if wanted.confidence:  # the softmax of one class alone
            confidence = (highest - scores.logsumexp(dim=1)[0]).exp() if logits else highest
        if not wanted.probabilities:
            return Prediction(classes, None, confidence=confidence)
        probabilities = (scores.softmax(dim=1) if logits else scores)[0]
        return Prediction(classes, probabilities, confidence=confidence)

    def views(self, images: Sequence[Tensor], *, least: tuple[int, int] | None = None) -> list[Tensor]:
        """Of each image, scores 1 x C x H x W: logits of the one view, or the mean probability of several."""
        if self.one_view:
            return self.forward(images, least=least)
        flips = (False, True) if self.flip else (False,)
        totals: list[Tensor] = []
        for scale in self.scales:
            views = [resized(image, scale) for image in images]
            enlarged = least and (round(least[0] * scale), round(least[1] * scale))
            for flipped in flips:
                found = self.forward(
                    [view.flip(2) if flipped else view for view in views], least=enlarged or None
                )
                for index, (image, logits) in enumerate(zip(images, found, strict=True)):
                    logits = logits.flip(3) if flipped else logits
                    size = tuple(image.shape[1:3])
                    logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
                    if index == len(totals):
                        totals.append(logits.softmax(dim=1))
                    else:
                        totals[index].add_(logits.softmax(dim=1))
        return [total.div_(len(self.scales) * len(flips)) for total in totals]

    @property
    def one_view(self) -> bool:
        """Whether there is a single view of the image: one scale, no flip."""
        return tuple(self.scales) == (1.0,) and not self.flip

    def forward(self, images: Sequence[Tensor], *, least: tuple[int, int] | None = None) -> list[Tensor]:
        """One forward pass on uint8 images 1 x h x w x channels, padded to `least`, or to `crop`, which makes
        them one size; float32 logits 1 x C x h x w, cropped to each image.
        """
        if self.stop is not None and self.stop.number is not None:
            raise InterruptedPredictionError(self.stop.number)
        least = least or self.crop or (1, 1)
        padded = [
            pad(
                image,
                max(image.shape[1], least[0]),
                max(image.shape[2], least[1]),
                self.normalization.pad_pixel,
            )
            for image in images
        ]
        pixels = self.normalization(padded[0] if len(padded) == 1 else torch.cat(padded))
        with torch.autocast(
            self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None
        ):
            logits = self.model(pixels)
        return [
            logits[index : index + 1, :, : image.shape[1], : image.shape[2]].float()
            for index, image in enumerate(images)
        ]

    # --- windows --------------------------------------------------------------------------------------------

    def in_windows(self, image: np.ndarray, window: int, wanted: Wanted) -> Prediction:
        """An image predicted in windows; its logits are never all in memory."""
        self.refuse_ids(f"cannot be blended from windows of {window} x {window} pixels")
        source = ArraySource(image)
        grid = self.grid(source, window)
        nodata = ignore_index_of(grid.num_classes)
        ids = torch.empty(image.shape[:2], dtype=torch.int64, device=self.device)
        confidence = torch.empty(image.shape[:2], device=self.device) if wanted.confidence else None
        scores = None
        overlapped = differing = 0
        whole = wanted.probabilities or self.crf is not None
        try:
            for band in self.bands_of(
                source, grid, start=0, probabilities=whole or wanted.confidence, nodata=nodata
            ):
                place = (
                    slice(band.top, band.top + len(band.ids)),
                    slice(band.left, band.left + band.ids.shape[1]),
                )
                ids[place] = torch.from_numpy(band.ids.astype(np.int64)).to(self.device)
                overlapped, differing = overlapped + band.overlapped, differing + band.differing
                if band.probabilities is not None and confidence is not None:
                    confidence[place] = torch.from_numpy(band.probabilities.max(axis=0)).to(self.device)
                if band.probabilities is not None and whole:
                    if scores is None:
                        scores = torch.empty(grid.num_classes, *image.shape[:2], device=self.device)
                    scores[:, place[0], place[1]] = torch.from_numpy(band.probabilities).to(self.device)
            if self.crf is not None:
                assert scores is not None
                scores = self.crf(self.on_device(image)[0], scores)
                highest, ids = scores.max(dim=0)
                confidence = highest if wanted.confidence else None
        except (MemoryError, RuntimeError) as error:
            full = memory_error(error, hint=LESS_FOR_PREDICTION)
            if full is None:
                raise
            height, width = image.shape[:2]
            full.message += f", for an image of {width} x {height} pixels in windows of {window} x {window}"
            raise full from None
        tiling = Tiling(window, grid.windows, overlapped, differing)
        return Prediction(ids, scores if wanted.probabilities else None, tiling, confidence)

    @torch.inference_mode()
    def grid(self, source: Source, window: int) -> Grid:
        return Grid.of(source.height, source.width, window=window, num_classes=self.classes_of(window))

    def classes_of(self, window: int) -> int:
        """Of the network; found by a pass where it was not given."""
        if self.num_classes is not None:
            return self.num_classes
        if self.budget.num_classes is None:
            empty = torch.zeros(1, window, window, len(self.normalization.mean), dtype=torch.uint8)
            with computing(self.device, tf32=self.tf32):
                self.budget.num_classes = self.forward([empty.to(self.device)])[0].shape[1]
        return self.budget.num_classes

    def bands(
        self, source: Source, *, start: int = 0, probabilities: bool = False, nodata: int | None = None
    ) -> Iterator[Band]:
        """The ids of an image too large for the memory, band by band. start: index of the first band wanted;
        those before it are not computed, and the others are the same to the bit. nodata: id of pixels without
        data; None: the ignore index. Raises as `predict`, and ConfigError with a CRF.
        """
        self.refuse_other_channels(source.channels)
        self.refuse_ids("cannot be blended from windows")
        if self.crf is not None:
            raise ConfigError(
                "eval.crf=true needs all of an image in memory, but this one is predicted band by band",
                hint="set eval.crf=false",
            )
        window = self.usual_window if self.window in ("auto", None) else int(self.window)
        grid = self.grid(source, window)
        nodata = ignore_index_of(grid.num_classes) if nodata is None else nodata
        yield from self.bands_of(source, grid, start=start, probabilities=probabilities, nodata=nodata)

    def bands_of(
        self, source: Source, grid: Grid, *, start: int, probabilities: bool, nodata: int
    ) -> Iterator[Band]:
        rows = grid.rows.parts
        most = self.at_once(grid.rows.window, grid.rows.window)
        blend = None
        for index in range(start, grid.bands):
            strip, row = grid.strips[index // len(rows)], index % len(rows)
            top, bottom = rows[row]
            with torch.inference_mode(), computing(self.device, tf32=self.tf32):
                if blend is None or row == 0:
                    blend = Blend(grid, strip, nodata, self.device)
                    for above in grid.rows.touching(top, bottom):
                        if above < row:  # what an interrupted prediction held of them
                            self.add_row(blend, source, above, top, most=most)
                self.add_row(blend, source, row, top, most=most)
                band = blend.take(
                    index, top, bottom - top, softmax=self.one_view, probabilities=probabilities
                )
            yield band

    def add_row(self, blend: Blend, source: Source, row: int, top: int, *, most: int) -> None:
        """Compute a row of windows, `most` at once. Those without any data are left out."""
        rows, columns = blend.grid.rows, blend.grid.columns
        begin, end = rows.starts[row], rows.end(row)
        waiting: list[tuple[int, Tensor, Tensor | None]] = []
        for column in blend.strip.windows:
            place = begin, end, columns.starts[column], columns.end(column)
            valid = source.valid(*place)
            if valid is not None and not valid.any():
                continue
            pixels = source.read(*place)
            if valid is not None and not valid.all():
                pixels = np.where(valid[..., None], pixels, np.array(self.normalization.pad_pixel, np.uint8))
            mask = None if valid is None else torch.from_numpy(valid).to(self.device)
            waiting.append((column, self.on_device(pixels), mask))
            if len(waiting) >= min(most, self.budget.most or most):
                self.add_windows(blend, row, top, waiting)
                waiting = []
        self.add_windows(blend, row, top, waiting)

    def add_windows(
        self, blend: Blend, row: int, top: int, waiting: list[tuple[int, Tensor, Tensor | None]]
    ) -> None:
        side = blend.grid.rows.window
        for (column, _, valid), scores in zip(
            waiting, self.of_windows([pixels for _, pixels, _ in waiting], side), strict=True
        ):
            blend.add(row, column, top, scores[0], valid)

    def of_windows(self, windows: list[Tensor], side: int) -> list[Tensor]:
        """The scores of windows, in fewer at once where memory does not suffice."""
        if not windows:
            return []
        try:
            return self.views(windows, least=(side, side))
        except (MemoryError, RuntimeError) as error:
            full = memory_error(error, hint=LESS_FOR_PREDICTION)
            if full is None:
                raise
        if len(windows) == 1:
            full.message += f", for a window of {side} x {side} pixels"
            raise full
        self.take_fewer(len(windows), full)
        half = math.ceil(len(windows) / 2)
        return self.of_windows(windows[:half], side) + self.of_windows(windows[half:], side)

    # --- what memory allows ---------------------------------------------------------------------------------

    @property
    def usual_window(self) -> int:
        """Image pooling has seen this extent in training."""
        return self.training_crop or USUAL_CROP

    def window_for(self, height: int, width: int) -> int | None:
        """The windows' side for an image, None for the whole one. What auto decides is said once."""
        if self.window != "auto":
            return None if self.window is None else int(self.window)
        if self.gives_ids:  # which cannot be blended
            return None
        side, free = self.usual_window, free_on(self.device)
        if max(height, width) <= side or self.enough(height, width, 1, free) == 1:
            return None
        needed = self.needed(height, width)
        if self.budget.first(f"windows of {side}"):
            assert free is not None  # else the image would have been said to fit
            self.say(
                f"eval.window=auto: an image of {width} x {height} pixels needs about {byte_words(needed)} "
                f"as a whole, {free.words}: windows of {side} x {side} for it and others that do not fit"
            )
        return side

    def needed(self, height: int, width: int) -> float:
        """Bytes for an image of this size, padded to `crop`; estimated."""
        height, width = self.padded(height, width)
        per_pixel = self.budget.bytes_per_pixel(self.model, channels=len(self.normalization.mean))
        largest = max(self.scales) ** 2
        # the scores of the views so far, of this one at the image's size, and their softmax
        sums = 0 if self.one_view else 12 * (self.num_classes or MOST_IN_8_BITS)
        return height * width * (REAL_TO_LIVE * largest * per_pixel + sums)

    def at_once(self, height: int, width: int) -> int:
        """Images of this size in one pass."""
        most = self.batch or MOST_AT_ONCE.get(self.device.type, MOST_ELSEWHERE)
        if self.budget.most is not None:
            most = min(most, self.budget.most)
        if self.batch is None and most > 1:
            most = self.enough(height, width, most, free_on(self.device))
        return max(1, most)

    def enough(self, height: int, width: int, most: int, free: Free | None) -> int:
        """For how many images of this size there is memory, up to `most`. The bytes that the network needs
        are counted, which takes a second or two, only where it would not suffice for any network.
        """
        high, wide = self.padded(height, width)
        any_network = high * wide * UNKNOWN * max(self.scales) ** 2
        if fitting(any_network, free) >= most:
            return most
        return min(most, fitting(self.needed(height, width), free))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        least = self.crop or (1, 1)
        return max(height, least[0]), max(width, least[1])

    def padded_sizes(self, image: np.ndarray) -> tuple[tuple[int, int], ...]:
        """The size of each view of an image as the network gets it."""
        height, width = image.shape[:2]
        sides = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in self.scales]
        return tuple(self.padded(*size) for size in sides)

    def take_fewer(self, count: int, full: ResourceError) -> None:
        """Remember that memory did not suffice for `count` at once."""
        half = math.ceil(count / 2)
        self.budget.most = half
        self.say(f"{full.message}: continuing with {half} at once")
        self.return_memory()

    def return_memory(self) -> None:
        """To the system, what torch keeps of what was freed."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def say(self, words: str) -> None:
        if is_main():
            tqdm.write(words, file=sys.stderr)


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
