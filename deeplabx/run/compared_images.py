"""Images of the data set for a comparison's page, with what two entries predict on them."""

from pathlib import Path

import numpy as np

from deeplabx.config import schema
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.record.record import Predictions, Record
from deeplabx.errors import CheckpointError, DataError, DeeplabxError
from deeplabx.report.compare.comparison import Comparison
from deeplabx.report.compare.entries import Evaluated
from deeplabx.report.compare.images import Example, Examples, gains, most_different, pairs_shown
from deeplabx.report.run_page.folder import RESULT
from deeplabx.run.description import config_from_plain
from deeplabx.run.evaluated import table_of
from deeplabx.run.evaluated_split import evaluated_split
from deeplabx.run.folder import config_of


def examples_of(comparison: Comparison, *, most: int) -> list[Examples]:
    """The images that differ most, of each pair that is shown: with image and label where the data set is
    where it was, else with words that say what is wrong.
    """
    if not most:
        return []
    fold = comparison.reference.folds[0]
    reference = comparison.reference.of_fold(fold)[0]
    samples, words = opened(reference)
    found = []
    for row in pairs_shown(comparison):
        own, gain = row.entry.of_fold(fold)[0], gains(row, comparison)
        first, second = Predictions(own.folder), Predictions(reference.folder)
        examples, said = [], [words] if words else []
        for at in most_different(gain, most=most):
            image, label = None, None
            if samples is not None:
                try:
                    image, label = samples[int(reference.record.indices[at])]
                except DataError as error:
                    said.append(error.message)
            predictions = [
                one.ids(int(of.record.indices[at])) for one, of in ((first, own), (second, reference))
            ]
            valid = [fitting(ids, own.record, at) for ids in predictions]
            if any(ids is None for ids in predictions):
                said.append("predictions of some images were not kept: predictions.zip holds the first ones")
            name = own.record.names[at]
            examples.append(Example(name, float(gain[at]), image, label, valid[0], valid[1]))
        found.append(Examples(row, examples, "\n\n".join(dict.fromkeys(said))))
    return found


def fitting(ids: np.ndarray | None, record: Record, at: int) -> np.ndarray | None:
    """Predicted ids, if they are of classes and of an image of this shape. Raises CheckpointError if not."""
    if ids is None:
        return None
    height, width = record.sizes[at].tolist()
    off = abs(ids.shape[0] * width - ids.shape[1] * height) > max(height, width)
    if int(ids.max(initial=0)) >= len(record.classes) or off:
        raise CheckpointError(
            f"predictions.zip is damaged: what it holds of {record.names[at]} is no prediction of it",
            hint="deeplabx eval RUN",
        )
    return ids


def opened(evaluated: Evaluated) -> tuple[ReadableSet | None, str]:
    """The split that was evaluated; None, with words, where it is not there or is another one now."""
    record = evaluated.record
    try:
        return evaluated_split(record, config_behind(evaluated).dataset), ""
    except DeeplabxError as error:
        return None, f"The data set cannot be read, so images and labels are not shown: {error.message}."


def config_behind(evaluated: Evaluated) -> schema.TrainConfig:
    if evaluated.of_run:
        return config_of(evaluated.folder)
    path: Path = evaluated.folder / RESULT
    table = table_of(path)
    if "config" not in table:
        raise CheckpointError(f"{path} names no config")
    return config_from_plain(table["config"])
