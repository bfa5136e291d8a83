"""One pass over the samples of some splits, in worker processes."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from deeplabx.dataset.check.edges import edges_of, packed, solid
from deeplabx.dataset.check.facts import ChannelSums, Facts
from deeplabx.dataset.check.stored import palette_of, stored_label
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.image_file import read_stored, turned
from deeplabx.dataset.label_file import RawLabel, fitting
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.workers import loaded, prepare_worker
from deeplabx.errors import DataError, DeeplabxError, memory_error

TOGETHER = 4  # samples that a worker reads at a time
MOST_VALUES = 4096  # raw values of a mask that are kept
SIDE = 24  # of a thumbnail
NO_DATA = 0.01  # smallest share of an image that an area without data has
STRAIGHT = 0.97  # convexity of such an area; in 1,163 photos of three data sets, none is above 0.953

Place = tuple[int, int]  # split, index


def scan(
    splits: Sequence[ReadableSet],
    *,
    workers: int,
    indices: Sequence[Sequence[int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    worker_init: Callable[[int], None] | None = None,
    memory: Callable[[], str] | None = None,
) -> list[Facts]:
    """The facts of every sample, in order. indices: of each split, those that are read; None for all.
    progress: called with the number of samples read and that of all. worker_init, memory: as in
    `training_batches`.

    Raises ResourceError when a worker is lost.
    """
    chosen = indices or [range(len(samples)) for samples in splits]
    places = [(number, index) for number, own in enumerate(chosen) for index in own]
    loader: DataLoader = DataLoader(
        Scanned(splits, places),
        batch_size=TOGETHER,
        collate_fn=as_one,
        num_workers=workers,
        worker_init_fn=functools.partial(prepare_worker, then=worker_init),
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    facts: list[Facts] = []
    with contextlib.closing(loaded(loader, what="group of samples", memory=memory)) as groups:
        for group in groups:
            facts += group or []
            if progress is not None and group:
                progress(len(facts), len(places))
    return facts


class Scanned(Dataset):
    """The facts of each sample. An error that is not the sample's is returned as a value, as in
    AugmentedSet.
    """

    def __init__(self, splits: Sequence[ReadableSet], places: Sequence[Place]) -> None:
        self.splits, self.places = splits, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Facts | DeeplabxError:
        split, index = self.places[number]
        try:
            return facts_of(self.splits[split], index)
        except Exception as error:
            full = memory_error(error, hint="the image is too large to be decoded in the memory there is")
            if full is None:
                raise
            return full


def as_one(found: list[Facts | DeeplabxError]) -> list[Facts] | DeeplabxError:
    facts = [one for one in found if isinstance(one, Facts)]
    errors = [one for one in found if isinstance(one, DeeplabxError)]
    return errors[0] if errors else facts


# --- one sample ---------------------------------------------------------------------------------------------


def facts_of(samples: ReadableSet, index: int) -> Facts:
    files = samples.samples
    if isinstance(files, LabelledFiles) and not files.has_own_reader:
        return of_files(samples, files, index)
    facts = Facts(samples.split, index)
    image_path, label_path = files.pairs[index] if isinstance(files, LabelledFiles) else (None, None)
    try:
        image, label = samples[index]
    except DataError as error:
        return replace(facts, image=image_path, label=label_path, problems=(error,))
    return replace(
        with_image(facts, image),
        image=image_path,
        label=label_path,
        label_size=label.shape[::-1],
        pixels=counted(label, samples),
        no_data=no_data(image, label, ignore_index=samples.ignore_index),
    )


def of_files(samples: ReadableSet, files: LabelledFiles, index: int) -> Facts:
    """Image and label are read each on its own, so that one that cannot be read does not hide the other."""
    image_path, label_path = files.pairs[index]
    facts = Facts(samples.split, index, image_path, label_path, digest=digest_of(image_path))
    problems: list[DataError] = []
    image = label = None
    raw: RawLabel | None = None
    orientation = 1
    with noted(problems):
        image, orientation = read_stored(image_path, channels=files.image_channels)
    with noted(problems):
        own = files.read_raw(label_path)
        raw = own
        label = files.train_ids(own.upright(), path=label_path)
    if raw is None:
        with contextlib.suppress(DataError):  # reading it as the data set does raised one
            raw = stored_label(files, label_path)
    if raw is not None:
        known = files.label_map.known.items()
        void = [value for value, train_id in known if train_id == files.ignore_index]
        facts = with_values(facts, raw.values, void=void)
        if not facts.by_colour:
            facts = replace(facts, palette=palette_of(files, label_path, facts.raw))
    if image is not None and raw is not None:
        with noted(problems):
            turn_image, turn_label = fitting(
                (image_path, (image.shape[1], image.shape[0]), orientation),
                (label_path, (raw.values.shape[1], raw.values.shape[0]), raw.orientation),
            )
            image = turned(image, orientation) if turn_image else image
            label = label if turn_label or label is None else files.train_ids(raw, path=label_path)
    if image is not None:
        facts = with_image(facts, image)
    if label is not None:
        facts = replace(facts, pixels=counted(label, samples))
    if image is not None and label is not None and image.shape[:2] == label.shape:
        facts = replace(facts, no_data=no_data(image, label, ignore_index=samples.ignore_index))
    return replace(facts, problems=tuple(problems))


@contextlib.contextmanager
def noted(problems: list[DataError]) -> Iterator[None]:
    """A DataError raised inside is kept."""
    try:
        yield
    except DataError as error:
        problems.append(error)


def digest_of(path: Path) -> bytes:
    """Of the content of a file; empty where it cannot be read, which reading its pixels answers."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()[:16]
    except OSError:
        return b""


def with_image(facts: Facts, image: np.ndarray) -> Facts:
    mean, deviation = (one.ravel() for one in cv2.meanStdDev(image))
    pixels = image.shape[0] * image.shape[1]
    sums = ChannelSums(
        pixels, tuple((mean * pixels).tolist()), tuple(((deviation**2 + mean**2) * pixels).tolist())
    )
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = small.reshape(SIDE, SIDE, -1).mean(axis=2).round().astype(np.uint8)
    return replace(
        facts,
        size=(image.shape[1], image.shape[0]),
        channels=sums,
        thumbnail=grey,
        constant=bool((deviation == 0).all()),
    )


def with_values(facts: Facts, values: np.ndarray, *, void: Sequence[int]) -> Facts:
    """values: raw ids H x W, or colours H x W x 3. void: those that are."""
    by_colour = values.ndim == 3
    flat = packed(values) if by_colour else values
    counts = counts_of(flat)
    most = sorted(counts, key=lambda value: -counts[value])[:MOST_VALUES]
    return replace(
        facts,
        label_size=(values.shape[1], values.shape[0]),
        raw={value: counts[value] for value in sorted(most)},
        values=len(counts),
        by_colour=by_colour,
        solid=counts_of(flat[solid(values)]),
        edges=edges_of(values, void=void),
    )


def counts_of(values: np.ndarray) -> dict[int, int]:
    """The number of pixels of each value."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        return {value: count for value, count in enumerate(counts.tolist()) if count}
    found, numbers = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))


def counted(label: np.ndarray, samples: ReadableSet) -> np.ndarray:
    """int64 C + 1: the pixels of each class, and of void."""
    classes = len(samples.classes)
    counts = np.bincount(label.ravel(), minlength=samples.ignore_index + 1)
    return np.append(counts[:classes], counts[samples.ignore_index]).astype(np.int64)


def no_data(image: np.ndarray, label: np.ndarray, *, ignore_index: int) -> dict[int, int]:
    """The pixels by class of areas at the border of the image that are exactly black or exactly white, as
    rasters have them where there is no data; void ones are not counted.
    """
    areas = without_data(image, 0) | without_data(image, 255)
    return counts_of(label[areas & (label != ignore_index)])


def without_data(image: np.ndarray, value: int) -> np.ndarray:
    """bool H x W: areas of exactly this value at the border of the image, with straight edges, as footprints
    of rasters have. The edges tell them from a sky or a shadow that is overexposed or underexposed.
    """
    own = np.ones(image.shape[:2], np.uint8)
    for first in range(0, image.shape[2], 4):  # as many channels as OpenCV compares at once
        part = np.ascontiguousarray(image[..., first : first + 4])
        limit = np.full(part.shape[2], value, np.float64)
        own &= np.asarray(cv2.inRange(part, limit, limit), np.uint8)
    chosen = np.zeros(own.shape, bool)
    if cv2.countNonZero(own) < NO_DATA * own.size:
        return chosen
    count, numbers = cv2.connectedComponents(own, connectivity=4, ltype=cv2.CV_32S)
    sides = [np.unique(side) for side in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1])]
    areas = np.bincount(numbers.ravel(), minlength=count)
    for one in np.unique(np.concatenate(sides)).tolist():
        if not one or areas[one] < NO_DATA * own.size or areas[one] == own.size:
            continue
        area = numbers == one
        around = all(one in side for side in sides)  # a frame
        if convexity(area) >= STRAIGHT or (around and convexity(~area) >= STRAIGHT):
            chosen |= area
    return chosen


def convexity(area: np.ndarray) -> float:
    """The pixels of an area, as a share of those of its convex hull."""
    outlines, _ = cv2.findContours(area.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = np.zeros(area.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outlines)), 1)
    return float(area.sum() / hull.sum())
