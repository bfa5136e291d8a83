"""Image, label and prediction of a few samples, side by side."""

from pathlib import Path

from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.writing import write_image
from deeplabx.engine.predictor import Predictor
from deeplabx.report.overlay import panel, stacked


def draw_samples(predictor: Predictor, samples: ReadableSet, path: Path, *, count: int) -> None:
    """Write `count` samples spread over the split, always the same ones; nothing if none can be read."""
    panels = []
    was_training = predictor.model.training
    predictor.model.eval()
    for number in range(min(count, len(samples))):
        sample = samples.read(number * len(samples) // count)
        if sample is not None:
            predicted = predictor.ids(sample.image).cpu().numpy()
            panels.append(panel(sample.image, sample.label, predicted, samples.palette))
    predictor.model.train(was_training)
    if panels:
        write_image(path, stacked(panels))
