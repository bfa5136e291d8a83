"""The split that was evaluated, opened again for its images."""

from deeplabx.config import schema
from deeplabx.dataset.fingerprint import image_names
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.record.record import Record
from deeplabx.errors import DataError
from deeplabx.run.build import dataset_of


def evaluated_split(
    record: Record, dataset: schema.DatasetSettings, *, samples: ReadableSet | None = None
) -> ReadableSet:
    """The split of a record, whose unreadable images raise errors. samples: the split, if it is open.

    Raises DataError or ConfigError where it cannot be opened, and DataError where its images or classes are
    not those that were evaluated.
    """
    if samples is None:
        samples = dataset_of(dataset, split=record.split)
    refuse_other_images(record, samples, root=dataset.root)
    return ReadableSet(samples.samples, split=samples.split)


def refuse_other_images(record: Record, samples: ReadableSet, *, root: str | None) -> None:
    """Raise DataError for other images or classes than were evaluated."""
    words = f"the images of {record.split} are not those that were evaluated:"
    if list(samples.classes) != record.classes:
        raise DataError(f"{words} the data set has other classes now")
    if len(record.indices) and int(record.indices.max()) >= len(samples):
        raise DataError(f"{words} there are {len(samples)} now")
    names = image_names(samples, root=root)
    if names is None:
        return
    for name, index in zip(record.names, record.indices.tolist(), strict=True):
        if names[index] != name:
            raise DataError(f"{words} image {index} was {name}, and is {names[index]} now")
