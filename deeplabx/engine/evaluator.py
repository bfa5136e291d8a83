"""Evaluation: one confusion matrix over a whole split."""

from dataclasses import replace

import torch
from tqdm import tqdm

from deeplabx.dataset.contract import widened
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.metrics import Metrics, confusion_matrix, metrics
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import CheckpointError
from deeplabx.process.distributed import agreed, gathered, own_share, sum_in_place
from deeplabx.process.signals import StopRequest


class InterruptedEvaluationError(Exception):
    """An evaluation was interrupted by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def evaluate(
    predictor: Predictor, samples: ReadableSet, *, stop: StopRequest | None = None, progress: bool = False
) -> Metrics:
    """The metrics of a whole split, at the labels' original size.

    Each process evaluates its share of the images, and all return the same result; they wait for each other
    only at the end. Images that `samples` skips are listed in the result and not counted. The model's mode is
    restored. Raises InterruptedEvaluationError in all processes if any of them receives a stop signal.
    """
    num_classes = len(samples.classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=predictor.device)
    training = predictor.model.training
    counted = 0
    samples.take_errors()  # discard earlier errors: this evaluation lists its own
    predictor.model.eval()
    try:
        indices = own_share(range(len(samples)))
        for index in tqdm(indices, desc="evaluate", unit="image", leave=False, disable=not progress):
            if stop is not None and stop.number is not None:
                break
            sample = samples.read(index)
            if sample is None:
                continue
            predicted = predictor.ids(sample.image)
            labels = torch.from_numpy(widened(sample.label)).to(predictor.device)
            confusion += confusion_matrix(
                predicted, labels, num_classes=num_classes, ignore_index=samples.ignore_index
            )
            counted += 1
    finally:
        predictor.model.train(training)
    asked, (images,) = agreed(stop, counted)
    if asked is not None:
        raise InterruptedEvaluationError(asked)
    unreadable = gathered(samples.take_errors())
    assert images + len(unreadable) == len(samples), f"{images} images evaluated of {len(samples)}"
    result = metrics(sum_in_place(confusion), list(samples.classes))
    return replace(result, images=int(images), unreadable=unreadable)


def refuse_other_classes(samples: ReadableSet, classes: list[str], *, source: object) -> None:
    """Raise CheckpointError unless a data set has the classes that a checkpoint was trained on."""
    if list(samples.classes) != classes:
        raise CheckpointError(
            f"{source} has {len(classes)} classes ({', '.join(classes[:4])}, ...), but the data set has "
            f"{len(samples.classes)} ({', '.join(samples.classes[:4])}, ...)",
            hint="evaluate on the data set it was trained on",
        )
