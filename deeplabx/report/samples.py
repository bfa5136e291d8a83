"""Image, label and prediction of a few samples, side by side."""

from pathlib import Path

from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import SampleReader
from deeplabx.dataset.writing import write_image
from deeplabx.engine.evaluator import read_ahead
from deeplabx.engine.predictor import Predictor
from deeplabx.process.signals import StopRequest
from deeplabx.report.overlay import panel, stacked


def draw_samples(
    predictor: Predictor,
    samples: ReadableSet,
    path: Path,
    *,
    count: int,
    stop: StopRequest | None = None,
) -> None:
    """Write `count` samples spread over the split, always the same ones; nothing if none can be read, or at a
    stop signal.
    """
    panels = []
    was_training = predictor.model.training
    predictor.model.eval()
    indices = [number * len(samples) // count for number in range(min(count, len(samples)))]
    for sample, _ in read_ahead(SampleReader(samples), indices, stop=stop):
        if sample is not None:
            predicted = predictor.ids(sample.image).cpu().numpy()
            panels.append(panel(sample.image, sample.label, predicted, samples.palette))
    predictor.model.train(was_training)
    if panels and (stop is None or stop.number is None):
        write_image(path, stacked(panels))
