"""The splits of people's own images: sub-folders, lists of names, or, where a folder has neither, a share of
the images or k folds, image by image or group by group.

What is split here depends on the names of the images and on a seed, not on the file system's order.
"""

import hashlib
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplabx.dataset.listing import Found, contents, images_in, leads_out, listed_names, nfc
from deeplabx.dataset.problems import report
from deeplabx.errors import DataError, printable

PARTS = ("train", "val")  # of a split that is made here
NAMED = (*PARTS, "test")  # sub-folders or lists of a folder with splits of its own
LONGEST_NAME = 1000  # characters of an image's path
LONGEST_SEARCH = 10.0  # seconds for all names


class Partition(NamedTuple):
    """How images are split.

    val_fraction: share of the images in val. folds, fold: number of folds, and which of them is val, from 0.
    group: a regular expression that finds an image's group in its path; no group is in two splits.
    """

    val_fraction: float | None = None
    split_seed: int = 0
    group: str | None = None
    folds: int | None = None
    fold: int | None = None

    @property
    def setting(self) -> str:
        """The setting that asks for it, as it is written; empty where the folder's own splits are used."""
        if self.folds is not None:
            return f"dataset.folds={self.folds}"
        return "" if self.val_fraction is None else f"dataset.val_fraction={self.val_fraction}"

    def refuse_contradiction(self) -> None:
        """Raise DataError for values that do not go together."""
        if self.folds is None and self.fold is not None:
            raise DataError(
                f"dataset.fold={self.fold} without dataset.folds",
                hint="set dataset.folds too, as in dataset.folds=5",
            )
        if self.folds is not None and self.fold is None:
            raise DataError(
                f"dataset.folds={self.folds} needs dataset.fold, from 0 to {self.folds - 1}",
                hint=f"all of them: -m dataset.fold={','.join(map(str, range(min(self.folds, 5))))}",
            )
        if self.folds is not None and self.fold is not None and not 0 <= self.fold < self.folds:
            raise DataError(
                f"dataset.fold={self.fold} is not one of the {self.folds} folds, 0 to {self.folds - 1}"
            )
        if self.folds is not None and self.val_fraction is not None:
            raise DataError(
                f"dataset.folds={self.folds} and dataset.val_fraction={self.val_fraction}: set only one"
            )
        if self.group is not None and not self.setting:
            raise DataError(
                "dataset.group has no effect without dataset.folds or dataset.val_fraction",
                hint="the folder's own splits are used as they are",
            )


# --- splits on disk -----------------------------------------------------------------------------------------


def file_of_all(base: Path, annotations: str, partition: Partition, *, what: str) -> Path:
    """dataset.annotations: the one file of all images, which the partition splits. what: such as "list"."""
    if leads_out(annotations):
        raise DataError(f"dataset.annotations={annotations} leads out of dataset.root")
    if not (base / annotations).is_file():
        raise DataError(f"dataset.annotations={annotations}: {base} has no such file; {contents(base)}")
    if not partition.setting:
        raise DataError(
            f"dataset.annotations={annotations} is the {what} of all images, which must be split",
            hint=f"set dataset.val_fraction or dataset.folds; for a {what} of each split, leave it unset",
        )
    return base / annotations


def images_of_split(
    base: Path,
    images: Path,
    split: str,
    partition: Partition,
    *,
    look: Callable[[Path], Found] = images_in,
) -> Found:
    """A split's images: those of `images`/<split>/, those that `base`/<split>.txt lists, or those of a split
    that is made here. look: lists the images below a folder.
    """
    partition.refuse_contradiction()
    own = [name for name in NAMED if (images / name).is_dir() or (base / f"{name}.txt").is_file()]
    if partition.setting and own:
        raise DataError(
            f"{base} already has splits ({', '.join(own)}); {partition.setting} would mix them",
            hint=f"leave {partition.setting.partition('=')[0]} unset, or put all images into {images.name}/ "
            "itself",
        )
    if partition.setting:
        found = look(images)
        names = [nfc(path.relative_to(images).as_posix()) for path in found.paths]
        chosen = indices_of(names, split, partition, where=images)
        return found._replace(paths=[found.paths[index] for index in chosen])
    if (images / split).is_dir():
        if (base / f"{split}.txt").is_file():
            raise DataError(
                f"{base} has both {images.name}/{split}/ and {split}.txt: which one is the split {split}?",
                hint="remove or rename one of them",
            )
        return look(images / split)
    if (images / split).is_symlink():
        raise DataError(
            f"{images / split} is a link to {(images / split).readlink()}, where there is no folder"
        )
    if (base / f"{split}.txt").is_file():
        return listed_images(look(images), images, base / f"{split}.txt")
    place = "" if images == base else f"{images.name}/"
    raise DataError(
        f"{base} has neither {place}{split}/ nor {split}.txt; {contents(images)}",
        hint="set dataset.val_fraction=0.2 for a seeded split into train and val",
    )


def listed_images(found: Found, images: Path, source: Path) -> Found:
    """The images that a split's list names, with or without their suffix."""
    by_name: dict[str, list[Path]] = {}
    for path in found.paths:
        inside = path.relative_to(images)
        for key in (inside, inside.with_suffix("")):
            by_name.setdefault(nfc(key.as_posix()), []).append(path)
    names = listed_names(source)
    matches = [by_name.get(nfc(Path(name).as_posix()), []) for name in names]
    wrong = [index for index, paths in enumerate(matches) if len(paths) != 1]
    if wrong:
        count = f" ({len(wrong)} of {len(names)} lines)" if len(wrong) > 1 else ""
        report(
            DataError(
                f"{source}: {names[wrong[0]]!r} matches {len(matches[wrong[0]])} images below {images}, not "
                f"one{count}",
                hint="a line is an image's path below images/, with / between folders: train/a or "
                "train/a.jpg",
            )
        )
    return found._replace(paths=[paths[0] for paths in matches if len(paths) == 1])


# --- splits that are made here ------------------------------------------------------------------------------


def indices_of(names: Sequence[str], split: str, partition: Partition, *, where: object) -> list[int]:
    """The indices of the images in `split`, in order. names: the path of each image below `where`, in NFC,
    with / between folders. Raises DataError.
    """
    partition.refuse_contradiction()
    if split not in PARTS:
        raise DataError(
            f"dataset split {split}: {partition.setting} makes train and val only",
            hint="or write a list of the images of each split",
        )
    held_out: Sequence[bool | None]
    if partition.group is None and partition.folds is None:
        held_out = by_permutation(len(names), partition, where=where)
    else:
        held_out = by_groups(names, partition, where=where)
    return [index for index, held in enumerate(held_out) if held is (split == "val")]


def by_permutation(count: int, partition: Partition, *, where: object) -> list[bool]:
    """Whether each image is in val: a seeded draw of a share of the images."""
    assert partition.val_fraction is not None
    held_out = max(1, round(count * partition.val_fraction))
    if held_out >= count:
        raise DataError(f"{where} holds {count} images, too few for {partition.setting}")
    chosen = set(np.random.default_rng(partition.split_seed).permutation(count)[:held_out].tolist())
    return [index in chosen for index in range(count)]


# --- groups -------------------------------------------------------------------------------------------------


def by_groups(names: Sequence[str], partition: Partition, *, where: object) -> list[bool | None]:
    """Whether each image is in val; None for one without a group. Groups are put in the order of a hash of
    their names, and that order is cut where the parts have the size that is asked for.

    So an image that is added to a data set moves few others: each cut moves by a group at most.
    """
    groups = list(names) if partition.group is None else groups_of(names, partition.group, where=where)
    sizes = Counter(group for group in groups if group is not None)
    order = sorted(sizes, key=lambda group: (digest(group, seed=partition.split_seed), group))
    if partition.folds is None:
        assert partition.val_fraction is not None
        shares = [partition.val_fraction, 1 - partition.val_fraction]
    else:
        shares = [1 / partition.folds] * partition.folds
    if len(order) < len(shares):
        if partition.group is None:
            raise DataError(f"{where} holds {len(order)} images, too few for {partition.setting}")
        raise DataError(f"{where} holds {len(order)} groups, too few for {partition.setting}")
    part_of = cut(order, [sizes[group] for group in order], shares)
    chosen = partition.fold or 0
    return [None if group is None else part_of[group] == chosen for group in groups]


def digest(group: str, *, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{group}".encode("utf-8", "surrogateescape")).digest()


def cut(order: Sequence[str], sizes: Sequence[int], shares: Sequence[float]) -> dict[str, int]:
    """The part of each group: consecutive groups, at least one in each part. A group is on the side of a cut
    on which its middle is, so that each cut is as near to the shares as whole groups allow.
    """
    middles = np.cumsum(sizes) - np.array(sizes) / 2
    places = np.cumsum(shares)[:-1] / sum(shares) * sum(sizes)
    cuts = np.searchsorted(middles, places - 1e-9).tolist()  # the number of groups before each
    for number in range(len(cuts)):  # a group may be larger than a share
        cuts[number] = max(cuts[number], 1 + (cuts[number - 1] if number else 0))
    for number in reversed(range(len(cuts))):
        following = cuts[number + 1] if number + 1 < len(cuts) else len(order)
        cuts[number] = min(cuts[number], following - 1)
    parts = np.searchsorted(cuts, np.arange(len(order)), side="right").tolist()
    return dict(zip(order, parts, strict=True))


def groups_of(names: Sequence[str], pattern: str, *, where: object) -> list[str | None]:
    """The group of each image: the pattern's first capture group, or its whole match, anywhere in the name.

    Reports a DataError where some images do not match; their group is None. Raises it where the pattern is
    invalid or none matches.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(
            f"dataset.group={pattern} is not a regular expression: {error}",
            hint=r"such as dataset.group='^(patient\d+)_'",
        ) from None
    long = [name for name in names if len(name) > LONGEST_NAME]
    if long:
        raise DataError(f"{where}: the path {long[0][:80]}... has more than {LONGEST_NAME} characters")
    with time_limit(
        DataError(
            f"dataset.group={pattern} takes longer than {LONGEST_SEARCH:g} s",
            hint="repeats inside repeats, such as (a+)+, may take for ever",
        )
    ):
        groups = [group_in(expression, name) for name in names]
    lacking = [name for name, group in zip(names, groups, strict=True) if group is None]
    if lacking:
        some = len(lacking) < len(names)
        no_match = DataError(
            f"dataset.group={pattern} matches {'not all' if some else 'none'} of the {len(names)} images "
            f"below {where}: {len(lacking)} do not match, the first: {printable(lacking[0])}",
            hint="it is searched in an image's path below that folder, such as train/patient7_01.jpg",
        )
        if not some:
            raise no_match
        report(no_match)
    return groups


def group_in(expression: re.Pattern[str], name: str) -> str | None:
    match = expression.search(name)
    if match is None:
        return None
    found = match[1] if expression.groups else match[0]
    return found or None  # an empty group would hold unrelated images


@contextmanager
def time_limit(error: DataError) -> Iterator[None]:
    """Raise the error where the block takes longer than LONGEST_SEARCH: Python's regular expressions take
    exponential time for some patterns. In the main thread, where data sets are opened; elsewhere there is no
    limit.
    """
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return

    def late(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, LONGEST_SEARCH)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
