"""How a run that continues compares what its weights depend on with the data set that is there now."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from deeplabx.config import schema
from deeplabx.dataset.fingerprint import Images, RawValues, image_names, raw_values, sha256_of
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine import durable
from deeplabx.errors import DataError, printable
from deeplabx.run.data_record import DataRecord, texts
from deeplabx.run.description import Description

FOLDER = "data"  # in a run's folder: the lists of image names, each under its sha256
SHOWN = 3  # of each kind of change, in a message
LONGEST = 60  # characters of a name or value in a message
ANOTHER_RUN = "train a new run from these weights: init_from=RUN"


class FoundData(NamedTuple):
    """A data set as it is now."""

    record: DataRecord
    classes: list[str]
    ignore_index: int
    training_names: list[str] | None
    evaluated_names: list[str] | None


def found_data(training: ReadableSet, validation: ReadableSet, *, root: str | None) -> FoundData:
    names = [image_names(samples, root=root) for samples in (training, validation)]
    record = DataRecord(
        given_root=root,
        raw_values=raw_values(training),
        training=Images.of(training, names[0]),
        evaluated=Images.of(validation, names[1]),
        accepted=[],
    )
    return FoundData(record, list(training.classes), training.ignore_index, names[0], names[1])


# --- a run that continues -----------------------------------------------------------------------------------


def recorded(
    now: FoundData, found: checkpoints.Checkpoint | None, folder: Path, *, accept: bool
) -> tuple[DataRecord, list[str]]:
    """What the checkpoints of a run record of its data, and lines for its log where that has changed.

    found: the checkpoint that the run in `folder` continues from. accept: whether to continue with other
    training images. Raises DataError for other classes, raw values or ignored values, and for other training
    images.
    """
    if found is None:
        return now.record, []
    stored, step = Description.of(found), int(found.state["step"])
    since, before = f"since step {step} was saved", stored.data or now.record
    refuse_other_classes(now, stored.classes, since=since)
    if now.ignore_index != stored.ignore_index:
        raise DataError(
            f"the ignore index changed {since}: it was {stored.ignore_index}, now {now.ignore_index}",
            hint=f"restore it, or {ANOTHER_RUN}",
        )
    refuse_other_raw_values(now, before.raw_values, since=since)
    words, accepted = [], before.accepted
    change = change_of(before.training, now.record.training, now.training_names, folder=folder)
    if change is not None:
        said = f"the training images changed {since}: {change.words}"
        if not accept:
            raise DataError(
                said,
                hint="restore them, or continue with those that are there now: accept_changed_images=true",
            )
        words.append(f"{said}; accepted, from step {step} on")
        accepted = [*accepted, {"step": step, **change.counts}]
    change = change_of(before.evaluated, now.record.evaluated, now.evaluated_names, folder=folder)
    if change is not None:
        words.append(
            f"the evaluated images changed {since}: {change.words}; mIoU from here on cannot be compared "
            "with that of earlier steps"
        )
    moved = now.record.given_root != stored.config.dataset.root
    given_root = now.record.given_root if moved else before.given_root
    return now.record._replace(given_root=given_root, accepted=accepted), words


def evaluation_warnings(
    samples: ReadableSet, config: schema.DatasetSettings, *, stored: Description, folder: Path
) -> list[str]:
    """How a split of the data set that a checkpoint was trained on differs from what it was then, where that
    changes what its mIoU means. folder: of the checkpoint's run.
    """
    before, trained_on = stored.data, stored.config.dataset
    if before is None or (config.name, config.root) != (trained_on.name, trained_on.root):
        return []
    names = image_names(samples, root=config.root)
    words = []
    if samples.split != before.training.split and names is not None:
        training = set(names_before(folder, before.training) or ())
        shared = [name for name in names if name in training]
        if shared:
            words.append(
                f"{len(shared)} of {len(names)} images of {samples.split} were training images of this run, "
                f"the first: {shortened(shared[0])}; the mIoU is too high"
            )
    if samples.split == before.evaluated.split:
        change = change_of(before.evaluated, Images.of(samples, names), names, folder=folder)
        if change is not None:
            words.append(
                f"the images of {samples.split} changed since this checkpoint was saved: {change.words}; "
                "this mIoU cannot be compared with that of the run"
            )
    is_now = raw_values(samples)
    if is_now is not None and before.raw_values is not None and is_now != before.raw_values:
        changes = changed_values(samples.classes, before.raw_values, is_now)
        words.append(
            "what the values in label files mean changed since this checkpoint was saved: "
            f"{first_of(changes, '; ')}"
        )
    return words


def refuse_other_classes(now: FoundData, before: list[str], *, since: str) -> None:
    changes = [
        f"class {index} was {shortened(was or 'none')}, now {shortened(name or 'none')}"
        for index, (was, name) in enumerate(zip_longest(before, now.classes))
        if was != name
    ]
    if changes:
        counts = f"{len(before)} then, {len(now.classes)} now; " if len(before) != len(now.classes) else ""
        raise DataError(
            f"the classes changed {since}: {counts}{first_of(changes, '; ')}",
            hint=f"restore them and their order, or {ANOTHER_RUN} (it takes classes by name)",
        )


def refuse_other_raw_values(now: FoundData, before: RawValues | None, *, since: str) -> None:
    if now.record.raw_values == before:
        return
    none = RawValues([""] * len(now.classes), "")
    was, is_now = before or none, now.record.raw_values or none
    changes = changed_values(now.classes, was, is_now)
    raise DataError(
        f"what the values in label files mean changed {since}: {first_of(changes, '; ')}",
        hint=f"restore label_map and ignore, or {ANOTHER_RUN}",
    )


def changed_values(classes: list[str], was: RawValues, is_now: RawValues) -> list[str]:
    """The classes, and ignore, whose raw values differ, in words."""
    return [
        f"{shortened(name)} was {shortened(old) or 'no value'}, now {shortened(new) or 'no value'}"
        for name, old, new in zip(
            [*classes, "ignore"],
            [*was.of_classes, was.ignored],
            [*is_now.of_classes, is_now.ignored],
            strict=False,
        )
        if old != new
    ]


class ImagesChange(NamedTuple):
    words: str
    counts: dict[str, int]


def change_of(before: Images, now: Images, names: list[str] | None, *, folder: Path) -> ImagesChange | None:
    """How the images of a split differ; None if they do not. names: of those that are there now."""
    if (before.number, before.sha256) == (now.number, now.sha256):
        return None
    words, counts = f"{before.number} then, {now.number} now", {"before": before.number, "now": now.number}
    old, new = names_before(folder, before), names
    if old is None or new is None:
        return ImagesChange(f"{words}, of names that are not known", counts)
    added = list((Counter(new) - Counter(old)).elements())
    removed = list((Counter(old) - Counter(new)).elements())
    if not added and not removed:
        first = next(one for one, other in zip(new, old, strict=True) if one != other)
        return ImagesChange(
            f"the same {now.number} in another order, from {shortened(first)} on",
            {**counts, "added": 0, "removed": 0},
        )
    lists = [
        f"{len(names)} {kind} ({first_of(map(shortened, names))})"
        for kind, names in (("added", added), ("removed", removed))
        if names
    ]
    return ImagesChange(
        f"{words}; {', '.join(lists)}", {**counts, "added": len(added), "removed": len(removed)}
    )


def first_of(parts: Iterable[str], separator: str = ", ") -> str:
    """The first few parts, and how many more there are."""
    found = list(parts)
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return separator.join([*found[:SHOWN], *more])


def shortened(text: str) -> str:
    return printable(text, LONGEST)


def refuse_other_copy(now: FoundData, of_main: DataRecord) -> None:
    """Raise DataError in a process whose machine has other files than the main process's."""
    own = now.record
    pairs = ((own.training, of_main.training), (own.evaluated, of_main.evaluated))
    for here, there in pairs:
        if here != there:
            raise DataError(
                f"split {here.split} has {here.number} images here and {there.number} on the machine of the "
                "main process, or other names: each process would train on its own",
                hint="copy the same data set to every machine",
            )
    if own.raw_values != of_main.raw_values:
        raise DataError(
            "label_map or ignore differs from that on the machine of the main process",
            hint="copy the same data set to every machine",
        )


# --- the names, in the run's folder -------------------------------------------------------------------------


def path_of(folder: Path, images: Images) -> Path:
    return folder / FOLDER / f"{str(images.sha256)[:16]}.json"


def write_names(folder: Path, found: FoundData) -> None:
    """Write the names of the images into the run's folder, so that a later change can be named. A list is
    never replaced: its file has the name of its content.
    """
    durable.tidy(folder / FOLDER)
    for images, names in (
        (found.record.training, found.training_names),
        (found.record.evaluated, found.evaluated_names),
    ):
        if names is not None and not path_of(folder, images).is_file():
            durable.replace(path_of(folder, images), json.dumps(names, indent=0) + "\n")


def names_before(folder: Path, images: Images) -> list[str] | None:
    """The names of a checkpoint's images; None where the run's folder has no such list."""
    try:
        names = texts(json.loads(path_of(folder, images).read_bytes()))
        return names if sha256_of(names) == images.sha256 else None
    except (OSError, ValueError, RecursionError):
        return None
