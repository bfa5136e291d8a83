"""Evaluation: one confusion matrix over a whole split."""

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor
from tqdm import tqdm

from deeplabx.dataset.arrivals import PATIENCE, POLL, QUIET
from deeplabx.dataset.check.no_valid_pixel import no_valid_pixel
from deeplabx.dataset.contract import Sample, widened
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.sample_reader import Read, SampleReader
from deeplabx.engine.metrics import Metrics, confusion_matrix, metrics
from deeplabx.engine.predictor import InterruptedPredictionError, Predictor
from deeplabx.engine.record.recorder import Recorder
from deeplabx.errors import CheckpointError, DeeplabxError, PeerFailedError
from deeplabx.process.distributed import agreed, gathered, own_share, sum_in_place
from deeplabx.process.signals import StopRequest


class InterruptedEvaluationError(Exception):
    """An evaluation was interrupted by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def evaluate(
    predictor: Predictor,
    samples: ReadableSet,
    *,
    reader: SampleReader | None = None,
    stop: StopRequest | None = None,
    progress: bool = False,
    predicted_one: Callable[[int, Sample, Tensor], None] | None = None,
    recorder: Recorder | None = None,
) -> Metrics:
    """The metrics of a whole split, at the labels' original size.

    reader: of these samples; None to read them in a thread.

    Each process evaluates its share of the images, and all return the same result; they wait for each other
    only at the end. Images that `samples` skips are listed in the result and not counted. The model's mode is
    restored. Raises InterruptedEvaluationError in all processes if any of them receives a stop signal,
    DataError if not a single pixel was counted, and PeerFailedError where another process raises an error.
    predicted_one: called with the index of each image of this process, the sample and the predicted class ids
    H x W. recorder: of these samples; it has the record of the evaluation afterwards.
    """
    num_classes = len(samples.classes)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=predictor.device)
    training = predictor.model.training
    counted, unreadable, failure = 0, [], None
    samples.take_errors()  # discard earlier errors: this evaluation lists its own
    predictor.model.eval()
    interruptible = replace(predictor, stop=stop)
    indices = own_share(range(len(samples)))
    images = read_ahead(reader or SampleReader(samples), indices, stop=stop)
    try:
        found = tqdm(
            images,
            total=len(indices),
            desc="evaluate",
            unit="image",
            leave=False,
            disable=not progress,
        )
        # The samples first, so that their end is reached: the reader's workers end where a pass is left.
        for (sample, errors), index in zip(found, indices, strict=False):
            unreadable += errors
            if sample is None:
                continue
            if recorder is None:
                predicted = interruptible.ids(sample.image)
            else:
                predicted = recorder.predict(interruptible, index, sample)
            if predicted_one is not None:
                predicted_one(index, sample, predicted)
            labels = torch.from_numpy(widened(sample.label)).to(predictor.device)
            own = confusion_matrix(
                predicted, labels, num_classes=num_classes, ignore_index=samples.ignore_index
            )
            confusion += own
            if recorder is not None:
                recorder.count(own)
            counted += 1
    except InterruptedPredictionError:
        pass  # `agreed` tells all processes
    except DeeplabxError as error:
        failure = error
    finally:
        images.close()
        predictor.model.train(training)
        if recorder is not None:
            recorder.close()
    asked, (evaluated, failures) = agreed(stop, counted, failure is not None)
    if failure is not None:
        raise failure
    if failures:
        raise PeerFailedError("another process could not evaluate its images")
    if asked is not None:
        raise InterruptedEvaluationError(asked)
    unreadable = gathered(unreadable)
    assert evaluated + len(unreadable) == len(samples), f"{evaluated} images evaluated of {len(samples)}"
    if not sum_in_place(confusion).any():
        raise no_valid_pixel(samples, unreadable=unreadable)
    if recorder is not None:
        recorder.finish()
    result = metrics(confusion, list(samples.classes))
    return replace(result, images=int(evaluated), unreadable=unreadable)


def read_ahead(
    reader: SampleReader, indices: Sequence[int], *, stop: StopRequest | None
) -> Generator[Read, None, None]:
    """The samples of these indices. It ends early at a stop signal, while it waits for one too."""
    waited = 0.0
    with contextlib.closing(reader.read(indices)) as images:
        for found in images:
            if stop is not None and stop.number is not None:
                return
            if found is not None:
                waited = 0.0
                yield found
                continue
            waited += POLL
            if waited == QUIET:
                tqdm.write(
                    f"waited {QUIET:.0f} s for an image: the disk is very slow, or does not answer; an error "
                    f"follows if none arrives in {PATIENCE:.0f} s",
                    file=sys.stderr,
                )


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
