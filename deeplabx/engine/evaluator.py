"""Evaluation: one confusion matrix over a whole split."""

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor
from tqdm import tqdm

from deeplabx.dataset.arrivals import PATIENCE, POLL, QUIET, arrivals
from deeplabx.dataset.check.no_valid_pixel import no_valid_pixel
from deeplabx.dataset.contract import Sample, widened
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.metrics import Metrics, confusion_matrix, metrics
from deeplabx.engine.predictor import InterruptedPredictionError, Predictor
from deeplabx.errors import CheckpointError, DeeplabxError, PeerFailedError, memory_error
from deeplabx.process.distributed import agreed, gathered, own_share, sum_in_place
from deeplabx.process.signals import StopRequest

AHEAD = 1  # images read while the network computes


class InterruptedEvaluationError(Exception):
    """An evaluation was interrupted by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def evaluate(
    predictor: Predictor,
    samples: ReadableSet,
    *,
    stop: StopRequest | None = None,
    progress: bool = False,
    predicted_one: Callable[[int, Sample, Tensor], None] | None = None,
) -> Metrics:
    """The metrics of a whole split, at the labels' original size.

    Each process evaluates its share of the images, and all return the same result; they wait for each other
    only at the end. Images that `samples` skips are listed in the result and not counted. The model's mode is
    restored. Raises InterruptedEvaluationError in all processes if any of them receives a stop signal,
    DataError if not a single pixel was counted, and PeerFailedError where another process raises an error.
    predicted_one: called with the index of each image of this process, the sample and the predicted class ids
    H x W.
    """
    num_classes = len(samples.classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=predictor.device)
    training = predictor.model.training
    counted, failure = 0, None
    samples.take_errors()  # discard earlier errors: this evaluation lists its own
    predictor.model.eval()
    interruptible = replace(predictor, stop=stop)
    try:
        indices = own_share(range(len(samples)))
        found = tqdm(
            read_ahead(samples, indices, stop=stop),
            total=len(indices),
            desc="evaluate",
            unit="image",
            leave=False,
            disable=not progress,
        )
        for index, sample in zip(indices, found, strict=False):
            if sample is None:
                continue
            predicted = interruptible.ids(sample.image)
            if predicted_one is not None:
                predicted_one(index, sample, predicted)
            labels = torch.from_numpy(widened(sample.label)).to(predictor.device)
            confusion += confusion_matrix(
                predicted, labels, num_classes=num_classes, ignore_index=samples.ignore_index
            )
            counted += 1
    except InterruptedPredictionError:
        pass  # `agreed` tells all processes
    except DeeplabxError as error:
        failure = error
    finally:
        predictor.model.train(training)
    asked, (evaluated, failures) = agreed(stop, counted, failure is not None)
    if failure is not None:
        raise failure
    if failures:
        raise PeerFailedError("another process could not evaluate its images")
    if asked is not None:
        raise InterruptedEvaluationError(asked)
    unreadable = gathered(samples.take_errors())
    assert evaluated + len(unreadable) == len(samples), f"{evaluated} images evaluated of {len(samples)}"
    if not sum_in_place(confusion).any():
        raise no_valid_pixel(samples, unreadable=unreadable)
    result = metrics(confusion, list(samples.classes))
    return replace(result, images=int(evaluated), unreadable=unreadable)


def read_ahead(
    samples: ReadableSet, indices: Sequence[int], *, stop: StopRequest | None
) -> Generator[Sample | None, None, None]:
    """The samples of these indices, None for one that is skipped, the next ones read while the caller
    computes. It ends early at a stop signal.
    """
    waited = 0.0
    with contextlib.closing(arrivals(read(samples, indices), ahead=AHEAD, what="image")) as images:
        for found in images:
            if stop is not None and stop.number is not None:
                return
            if found is not None:
                waited = 0.0
                yield found[0]
                continue
            waited += POLL
            if waited == QUIET:
                tqdm.write(
                    f"waited {QUIET:.0f} s for an image: the disk is very slow, or does not answer; an error "
                    f"follows if none arrives in {PATIENCE:.0f} s",
                    file=sys.stderr,
                )


def read(samples: ReadableSet, indices: Sequence[int]) -> Generator[tuple[Sample | None], None, None]:
    """The samples of these indices, each in a tuple: None in it for one that is skipped."""
    for index in indices:
        try:
            sample = samples.read(index)
        except DeeplabxError:
            raise
        except Exception as error:
            full = memory_error(error, hint="the image is too large to be decoded in the memory there is")
            if full is None:
                raise
            full.message += f", reading image {index + 1} of {len(samples)}"
            raise full from None
        yield (sample,)


def first_of(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])])


def refuse_other_classes(samples: ReadableSet, classes: list[str], *, source: object) -> None:
    """Raise CheckpointError unless a data set has the classes that a checkpoint was trained on."""
    if list(samples.classes) != classes:
        pairs = enumerate(zip_longest(classes, samples.classes, fillvalue="none"))
        index, (own, other) = next((index, pair) for index, pair in pairs if pair[0] != pair[1])
        raise CheckpointError(
            f"{source} has {len(classes)} classes ({first_of(classes)}), but the data set has "
            f"{len(samples.classes)} ({first_of(samples.classes)}); class {index} is {own} in one, "
            f"{other} in the other",
            hint="evaluate on the data set it was trained on",
        )
