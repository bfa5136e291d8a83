"""Image, label and prediction of a few samples, side by side."""

from pathlib import Path

import numpy as np
from torch import Tensor

from deeplabx.dataset.contract import Sample
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import SampleReader
from deeplabx.dataset.writing import write_image
from deeplabx.engine.evaluator import read_ahead
from deeplabx.engine.predictor import Predictor
from deeplabx.process.signals import StopRequest
from deeplabx.report.overlay import panel, stacked


class SamplePanels:
    """Panels of `count` samples spread over a split, always the same ones."""

    def __init__(self, samples: ReadableSet, *, count: int) -> None:
        self.samples = samples
        self.indices = [number * len(samples) // count for number in range(min(count, len(samples)))]
        self.panels: dict[int, np.ndarray] = {}

    def add(self, index: int, sample: Sample, predicted: Tensor | None) -> None:
        """Keep the panel of a sample if it is one of them. predicted: its class ids H x W, if there are."""
        if index in self.indices:
            ids = [sample.label, *([] if predicted is None else [predicted.cpu().numpy()])]
            self.panels[index] = panel(sample.image, ids, self.samples.palette)

    def add_rest(self, predictor: Predictor | None, *, stop: StopRequest | None = None) -> None:
        """Add those that are not there yet, up to a stop signal. One that cannot be read is left out.
        predictor: None for image and label alone.
        """
        rest = [index for index in self.indices if index not in self.panels]
        was_training = predictor is not None and predictor.model.training
        if predictor is not None:
            predictor.model.eval()
        found = read_ahead(SampleReader(self.samples), rest, stop=stop)
        for index, (sample, _) in zip(rest, found, strict=False):
            if sample is not None:
                self.add(index, sample, None if predictor is None else predictor.ids(sample.image))
        if predictor is not None:
            predictor.model.train(was_training)

    def write(self, path: Path) -> None:
        """Write them one above the other; nothing if there are none."""
        if self.panels:
            write_image(path, stacked([self.panels[index] for index in sorted(self.panels)]))
