"""A few samples of a split, always the same ones, as a run shows them at each evaluation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deeplabx.dataset.contract import Sample, widened
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import SampleReader
from deeplabx.dataset.writing import place_for
from deeplabx.engine.evaluator import read_ahead
from deeplabx.engine.metrics import confusion_matrix, metrics
from deeplabx.engine.predictor import Predictor
from deeplabx.process.signals import StopRequest
from deeplabx.report.sample_sheet import Row, sample_sheet
from deeplabx.tracker.png import png


class SamplePanels:
    """Rows of `count` samples spread over a split, always the same ones."""

    def __init__(self, samples: ReadableSet, *, count: int) -> None:
        self.samples = samples
        self.indices = [number * len(samples) // count for number in range(min(count, len(samples)))]
        self.rows: dict[int, Row] = {}

    def add(self, index: int, sample: Sample, predicted: Tensor | None) -> None:
        """Keep the row of a sample if it is one of them. predicted: its class ids H x W, if there are."""
        if index in self.indices:
            ids = None if predicted is None else predicted.cpu().numpy()
            iou = None if predicted is None else self.iou(sample, predicted)
            self.rows[index] = Row.of(name_of(self.samples, index), sample.image, sample.label, ids, iou)

    def iou(self, sample: Sample, predicted: Tensor) -> float | None:
        """The mIoU of one image; None if none of its pixels is labelled."""
        labels, classes = torch.from_numpy(widened(sample.label)), list(self.samples.classes)
        counted = confusion_matrix(
            predicted.cpu(), labels, num_classes=len(classes), ignore_index=self.samples.ignore_index
        )
        return metrics(counted, classes).miou if counted.any() else None

    def add_rest(self, predictor: Predictor | None, *, stop: StopRequest | None = None) -> None:
        """Add those that are not there yet, up to a stop signal. One that cannot be read is left out.
        predictor: None for image and label alone.
        """
        rest = [index for index in self.indices if index not in self.rows]
        was_training = predictor is not None and predictor.model.training
        if predictor is not None:
            predictor.model.eval()
        found = read_ahead(SampleReader(self.samples), rest, stop=stop)
        for index, (sample, _) in zip(rest, found, strict=False):
            if sample is not None:
                self.add(index, sample, None if predictor is None else predictor.ids(sample.image))
        if predictor is not None:
            predictor.model.train(was_training)

    def draw(self) -> np.ndarray | None:
        """The rows one below the other with titles and a legend, uint8 RGB; None if there are none."""
        if not self.rows:
            return None
        return sample_sheet(
            [self.rows[index] for index in sorted(self.rows)],
            classes=self.samples.classes,
            palette=self.samples.palette,
            ignore_index=self.samples.ignore_index,
        )

    def write(self, path: Path) -> np.ndarray | None:
        """Write what `draw` gives as a PNG, and return it; no file if there is none."""
        sheet = self.draw()
        if sheet is not None:
            place_for(path).write_bytes(png(sheet))
        return sheet


def name_of(samples: ReadableSet, index: int) -> str:
    """The name of a sample: of its image file, else its index in the split."""
    inside = samples.samples
    if isinstance(inside, LabelledFiles) and len(inside.pairs) == len(samples):
        return inside.pairs[index][0].stem
    return f"{samples.split or 'image'} {index}"
