"""Find images that are both in the training and in the validation split: their mIoU says nothing about new
images.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.listing import nfc
from deeplabx.dataset.readable import ReadableSet

HEAD = 4096  # bytes that are compared before a whole file is read


class Kept(NamedTuple):
    """An image file as the file system knows it."""

    path: Path
    file: tuple[int, int]  # device and number: equal for links to one file
    named: tuple[str, int]  # its name and its size


def shared_images(training: ReadableSet, validation: ReadableSet) -> list[str]:
    """A warning where training and validation share images: the same split, the same file or link, or files
    of the same name, size and content. Contents are read only where name and size agree.
    """
    if training.split == validation.split:
        return [
            f"warning: training and validation are both split {validation.split}: the mIoU is that of images "
            "which the model has seen"
        ]
    if not (isinstance(training.samples, LabelledFiles) and isinstance(validation.samples, LabelledFiles)):
        return []
    trained = [kept for image, _ in training.samples.pairs if (kept := looked_up(image))]
    evaluated = [kept for image, _ in validation.samples.pairs if (kept := looked_up(image))]
    shared = {kept.path: other for kept, other in same_files(evaluated, trained)}
    rest = [kept for kept in evaluated if kept.path not in shared]
    shared |= {kept.path: other for kept, other in same_contents(rest, trained)}
    if not shared:
        return []
    first, other = min(shared.items())
    named = f"{first}" if first == other else f"{first} is {other}"
    return [
        f"warning: {len(shared)} of {len(validation)} images of {validation.split} are training images too, "
        f"the first: {named}; the mIoU is too high"
    ]


def looked_up(path: Path) -> Kept | None:
    """None for a file that cannot be read: whoever reads its pixels says so."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Kept(path, (found.st_dev, found.st_ino), (nfc(path.name), found.st_size))


def same_files(evaluated: list[Kept], trained: list[Kept]) -> list[tuple[Kept, Path]]:
    by_file = {kept.file: kept.path for kept in trained if kept.file[1]}  # 0: the file system has no numbers
    return [(kept, by_file[kept.file]) for kept in evaluated if kept.file in by_file]


def same_contents(evaluated: list[Kept], trained: list[Kept]) -> list[tuple[Kept, Path]]:
    """The pairs of equal name, size and content; the first bytes are compared before whole files are read."""
    ours: dict[Hashable, list[Kept]] = {}
    theirs: dict[Hashable, list[Kept]] = {}
    for known in (name_and_size, name_and_head, name_and_digest):
        ours, theirs = grouped(evaluated, known), grouped(trained, known)
        common = ours.keys() & theirs.keys()
        evaluated = [kept for value in common for kept in ours[value]]
        trained = [kept for value in common for kept in theirs[value]]
    return [(kept, theirs[value][0].path) for value in theirs.keys() & ours.keys() for kept in ours[value]]


def grouped(kepts: list[Kept], known: Callable[[Kept], Hashable]) -> dict[Hashable, list[Kept]]:
    """Files by what is known of them; without those that cannot be read."""
    found: dict[Hashable, list[Kept]] = defaultdict(list)
    for kept in kepts:
        with suppress(OSError):  # as above
            found[known(kept)].append(kept)
    return found


def name_and_size(kept: Kept) -> Hashable:
    return kept.named


def name_and_head(kept: Kept) -> Hashable:
    with kept.path.open("rb", buffering=0) as file:
        return kept.named, file.read(HEAD)


def name_and_digest(kept: Kept) -> Hashable:
    with kept.path.open("rb", buffering=0) as file:
        return kept.named, hashlib.file_digest(file, "blake2b").digest()
