"""Images that are in two splits, or twice in one, and classes that are in one split only."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import SHOWN, Example, Finding, Level, number
from deeplabx.errors import listed

# Correlation of two thumbnails' details, from which on one image is a copy of the other or the next frame. Of
# different photos of VOC, CamVid and Cityscapes the highest is 0.64.
ALIKE = 0.85
COPY = 0.97  # from which on it is a copy, also in a sequence
SAME = 0.9  # share of images that are most like one of their own sequence, where sequences were split
SIGMAS = 5  # by which that share must be above chance
FEWEST = 10  # images, to say so
AT_A_TIME = 256  # images of the one split that are compared with all of the other
FLAT = 2.0  # least standard deviation of a thumbnail's details, in grey levels, that tells images apart


class Pair(NamedTuple):
    """An image and the one in the other split that is most like it."""

    one: Facts
    other: Facts
    alike: float


def of_images(training: Sequence[Facts], evaluated: Sequence[Facts]) -> Iterator[Finding]:
    """Images of the evaluated split that are in the training split too."""
    if any(one.image is None for one in (*training, *evaluated)):
        return  # generated, each by its seed
    same = identical(evaluated, training)
    if same:
        everything = {pair.other.digest for pair in same} >= {one.digest for one in training}
        yield Finding(
            "duplicate_across_splits",
            # A split that is evaluated on the images it was trained on, as a whole, was made so on purpose.
            Level.WARNING if len({pair.one.image for pair in same}) == len(evaluated) else Level.ERROR,
            f"{of_split(same, evaluated)} in {training[0].split} too, so the mIoU is too high",
            "remove them from one of the splits",
            files=tuple(dict.fromkeys(path for pair in same if (path := pair.one.image))),
            examples=examples(same),
            repair="" if everything else f"they are removed from {training[0].split}",
            details={} if everything else removed(same),
        )
    known = {id(pair.one) for pair in same}
    rest = [one for one in evaluated if id(one) not in known]
    nearest = most_alike(rest, training)
    near = [pair for pair in nearest if pair.alike >= ALIKE]
    copies = [pair for pair in near if pair.alike >= COPY or not one_sequence(pair)]
    if copies:
        yield Finding(
            "near_duplicate_across_splits",
            Level.WARNING,
            f"{of_split(copies, evaluated)} also in {training[0].split}, resized, mirrored or saved again",
            "remove them from one of the splits",
            files=tuple(path for pair in copies if (path := pair.one.image)),
            examples=examples(copies),
            repair=f"their copies are removed from {training[0].split}",
            details=removed(copies),
        )
    frames = sequences_split(nearest, training) or [pair for pair in near if one_sequence(pair)]
    if frames:
        first = frames[0]
        assert first.one.image is not None
        assert first.other.image is not None
        yield Finding(
            "sequence_across_splits",
            Level.WARNING,
            f"{of_split(frames, evaluated)} similar to images of {training[0].split} whose names have the "
            f"same beginning: frames of one sequence, such as {first.one.image.name} and "
            f"{first.other.image.name}",
            "put whole sequences into one split, as dataset.group does with dataset=folder; else the mIoU "
            "says little about other sequences",
            files=tuple(path for pair in frames if (path := pair.one.image)),
            examples=examples(frames),
        )


def of_split(pairs: Sequence[Pair], evaluated: Sequence[Facts]) -> str:
    """Such as "3 of 40 images of val are"."""
    count = len({pair.one.image for pair in pairs})
    return f"{count:,} of {len(evaluated):,} images of {evaluated[0].split} {'is' if count == 1 else 'are'}"


def of_split_itself(facts: Sequence[Facts]) -> Iterator[Finding]:
    """Images that are twice in one split."""
    twice = repeated(facts)
    if twice:
        yield Finding(
            "duplicate_in_split",
            Level.WARNING,
            f"{number(twice, 'image')} of {facts[0].split} with the content of another one",
            "remove the copies; of two masks for one image, one is wrong",
            files=tuple(path for pair in twice if (path := pair.one.image)),
            examples=examples(twice),
            repair="the copies are removed",
            details={
                "remove": [str(pair.one.image) for pair in twice if pair.one.image != pair.other.image],
                "remove_from": facts[0].split,
            },
        )


def examples(pairs: Sequence[Pair]) -> tuple[Example, ...]:
    """Of each pair, the two images."""
    return tuple(
        Example(one.image, one.label, f"{one.split}: {one.image}")
        for pair in pairs[:SHOWN]
        for one in (pair.one, pair.other)
    )


def removed(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The training images of the pairs; they stay in other splits that have them."""
    return {
        "remove": sorted({str(pair.other.image) for pair in pairs}),
        "remove_from": pairs[0].other.split,
    }


def identical(evaluated: Sequence[Facts], training: Sequence[Facts]) -> list[Pair]:
    """All pairs of files with the same content; without images of a single colour, as empty tiles are."""
    by_digest: dict[bytes, list[Facts]] = defaultdict(list)
    for one in training:
        if one.digest and not one.constant:
            by_digest[one.digest].append(one)
    return [Pair(one, other, 1.0) for one in evaluated for other in by_digest.get(one.digest, ())]


def repeated(facts: Sequence[Facts]) -> list[Pair]:
    """Each further file of one split with the content of an earlier one."""
    first: dict[bytes, Facts] = {}
    found = []
    for one in facts:
        if one.digest and not one.constant:
            earlier = first.setdefault(one.digest, one)
            if earlier is not one:
                found.append(Pair(one, earlier, 1.0))
    return found


def most_alike(evaluated: Sequence[Facts], training: Sequence[Facts]) -> list[Pair]:
    """The most similar training image of each image; mirrored images are compared too."""
    ours, theirs = described(evaluated), described(training)
    if not ours or not theirs:
        return []
    others = np.stack([normalised(vector) for _, vector in theirs]).T
    found = []
    for begin in range(0, len(ours), AT_A_TIME):
        part = ours[begin : begin + AT_A_TIME]
        alike = np.stack([normalised(vector) for _, vector in part]) @ others
        np.maximum(alike, np.stack([normalised(vector[:, ::-1]) for _, vector in part]) @ others, out=alike)
        best = alike.argmax(axis=1)
        for row, ((one, _), column) in enumerate(zip(part, best.tolist(), strict=True)):
            found.append(Pair(one, theirs[column][0], float(alike[row, column])))
    return found


def described(facts: Sequence[Facts]) -> list[tuple[Facts, np.ndarray]]:
    """The details of each image's thumbnail; without images that have none."""
    found = []
    for one in facts:
        if one.thumbnail is not None:
            details = details_of(one.thumbnail)
            if details.std() >= FLAT:
                found.append((one, details))
    return found


def details_of(thumbnail: np.ndarray) -> np.ndarray:
    """float32 H x W: a thumbnail without its coarse parts, which images of one kind share, such as a bright
    sky above a dark street: each pixel less the mean around it.
    """
    grey = thumbnail.astype(np.float32)
    padded = np.pad(grey, 3, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    return grey - windows.mean(axis=(2, 3))


def normalised(details: np.ndarray) -> np.ndarray:
    flat = details.ravel() - details.mean()
    return flat / np.linalg.norm(flat)


def sequence_of(one: Facts) -> str | None:
    """The name of an image without the number at its end, as of the frames of a video."""
    return None if one.image is None else re.sub(r"\d+\D*$", "", one.image.stem)


def one_sequence(pair: Pair) -> bool:
    assert pair.one.image is not None
    assert pair.other.image is not None
    return sequence_of(pair.one) == sequence_of(pair.other) and pair.one.image.stem != pair.other.image.stem


def sequences_split(nearest: Sequence[Pair], training: Sequence[Facts]) -> list[Pair]:
    """Pairs of one sequence, where almost every image is most like one whose name has its own beginning, far
    more than by chance: names alone, such as 2007_000032, say nothing.
    """
    names = Counter(sequence_of(one) for one in training)
    total = names.total()
    known = [pair for pair in nearest if sequence_of(pair.one) in names]
    if len(known) < FEWEST:
        return []
    same = [pair for pair in known if one_sequence(pair)]
    chance = sum(names[sequence_of(pair.one)] for pair in known) / total / len(known)
    above = (len(same) / len(known) - chance) / math.sqrt(max(chance * (1 - chance), 1e-12) / len(known))
    return same if len(same) >= SAME * len(known) and chance < 1 and above > SIGMAS else []


# --- classes ------------------------------------------------------------------------------------------------


def of_classes(splits: Mapping[str, Sequence[Facts]], names: Sequence[str]) -> Iterator[Finding]:
    """Classes that no label has, that a single split has, and a training split of one class."""
    pixels = {split: summed(facts, len(names)) for split, facts in splits.items()}
    if not names or not all(found is not None for found in pixels.values()):
        return
    counts = {split: found for split, found in pixels.items() if found is not None}
    absent = [name for index, name in enumerate(names) if not any(found[index] for found in counts.values())]
    if absent and len(absent) < len(names):
        yield Finding(
            "class_never_occurs",
            Level.WARNING,
            f"{of_names(absent)} in no mask: {listed(absent, 8)}",
            "check the ids of these classes; a class without pixels cannot be learned",
            details={"classes": absent},
        )
    only: dict[str, list[str]] = defaultdict(list)
    for index, name in enumerate(names):
        holding = [split for split, found in counts.items() if found[index]]
        if len(counts) > 1 and len(holding) == 1:
            only[holding[0]].append(name)
    for split, classes in only.items():
        others = listed([other for other in counts if other != split])
        yield Finding(
            "class_in_one_split",
            Level.WARNING,
            f"{of_names(classes)} in {split} only, not in {others}: {listed(classes, 8)}",
            "split again so that each class is in every split, as with dataset.val_fraction",
            details={"split": split, "classes": classes},
        )


def of_names(classes: Sequence[str]) -> str:
    return f"{len(classes)} classes are" if len(classes) > 1 else "1 class is"


def summed(facts: Sequence[Facts], classes: int) -> np.ndarray | None:
    """Pixels of each class; None where no label could be used."""
    usable = [
        one.pixels[:classes] for one in facts if one.pixels is not None and len(one.pixels) == classes + 1
    ]
    return np.sum(usable, axis=0) if usable else None
