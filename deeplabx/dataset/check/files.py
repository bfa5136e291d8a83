"""Files that cannot be used, and images and masks that do not fit together."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import SHOWN, Example, Finding, Level, number
from deeplabx.dataset.files import MissingFilesError
from deeplabx.errors import DataError

CUT = 0.8  # share of an image's width down to which a mask may be a part of it, without a border
LEFT_OUT = "these samples are left out"
# What is wrong, what to do, and what fix=true does, by the kind of an error.
WORDS = {
    "unreadable": (
        "cannot be read",
        "get the files again from their source, or remove the samples",
        LEFT_OUT,
    ),
    "size_bomb": (
        "have more pixels than are decoded",
        "cut them into tiles, or remove the samples",
        LEFT_OUT,
    ),
    "several_pages": ("have several pages or frames", "save each page as a file of its own", LEFT_OUT),
    "more_than_8_bits": ("have more than 8 bits per channel", "convert them to 8 bits", LEFT_OUT),
    "more_channels": ("have channels that would not be used", "'dataset.channels=[0,1,2]' uses three", ""),
    "not_whole_numbers": ("hold other than whole numbers", "save masks as PNG with ids", LEFT_OUT),
    "transparent": (
        "have transparent pixels",
        "save them without transparency; or set dataset.mask_alpha for masks, dataset.channels for images",
        "",
    ),
    "one_bit_mask": (
        "have one bit per pixel, whose white may be id 1 or 255",
        "save them with 8 bits per pixel, or give only one of the two ids a meaning",
        "white becomes id 1",
    ),
    "exif": (
        "are rotated by EXIF, while the masks fit with and without the rotation",
        "save the images upright, without EXIF",
        "",
    ),
}
BY_VALUES = ("colour_mask", "unknown_value", "lossy_mask")  # the raw values say more


def of_files(facts: Sequence[Facts]) -> Iterator[Finding]:
    """The findings about files, one for each kind of problem."""
    by_kind: dict[str, list[tuple[Facts, DataError]]] = defaultdict(list)
    for one in facts:
        for problem in one.problems:
            by_kind[problem.kind].append((one, problem))
    for kind, found in sorted(by_kind.items()):
        if kind == "size_mismatch":
            yield from of_sizes([one for one, _ in found])
        elif kind not in BY_VALUES:
            yield of_kind(kind, found)


def of_kind(kind: str, found: list[tuple[Facts, DataError]]) -> Finding:
    said, fix, repair = WORDS.get(kind, WORDS["unreadable"])
    files = [file_of(one, problem) for one, problem in found]
    return Finding(
        kind,
        Level.ERROR,
        f"{number(found, 'file')} that {said if len(found) > 1 else in_singular(said)}",
        fix,
        files=tuple(files),
        examples=tuple(Example(one.image, one.label, problem.message) for one, problem in found[:SHOWN]),
        repair=repair,
    )


def in_singular(said: str) -> str:
    verb, _, rest = said.partition(" ")
    return f"{ {'have': 'has', 'hold': 'holds', 'are': 'is'}.get(verb, verb) } {rest}"


def file_of(one: Facts, problem: DataError) -> Path:
    """The file that an error is about; the image where it names none."""
    assert one.image is not None
    assert one.label is not None
    of_label = str(one.label) in problem.message and str(one.image) not in problem.message
    return one.label if of_label else one.image


def of_sizes(facts: Sequence[Facts]) -> Iterator[Finding]:
    """Masks of another size than their images, by cause: turned by 90 degrees, resized, or of another
    image.
    """
    turned: list[Facts] = []
    resized: list[Facts] = []
    other: list[Facts] = []
    ratios: Counter[float] = Counter()
    for one in facts:
        if one.size and one.label_size and one.size == one.label_size[::-1]:
            turned.append(one)
        elif ratio := scale_of(one):
            ratios[ratio] += 1
            resized.append(one)
        else:
            other.append(one)
    if turned:
        yield sized(
            "turned_mask",
            turned,
            "are turned by 90 degrees against their images",
            "turn them as the images are; EXIF may have been lost from the images",
            LEFT_OUT,
        )
    if resized:
        common = ", ".join(f"{ratio:g}" for ratio, _ in ratios.most_common(3))
        yield sized(
            "resized_mask",
            resized,
            f"have {common} of the width and height of their images",
            "use images and masks of one size",
            "the images are resized to their masks; labels are never resized",
        )
    if other:
        yield sized(
            "size_mismatch",
            other,
            "have another shape than their images",
            "find the image that each belongs to",
            LEFT_OUT,
        )


def scale_of(one: Facts) -> float | None:
    """The size of a mask relative to its image, two digits, where it is the same across and down; None too
    where the mask may have been cut out or padded instead.
    """
    if not one.size or not one.label_size:
        return None
    across, down = (label / image for label, image in zip(one.label_size, one.size, strict=True))
    rounding = 1 / min(*one.size, *one.label_size)
    if abs(across - down) > max(0.01 * across, rounding):
        return None
    (width, height), (label_width, label_height) = one.size, one.label_size
    equally = abs((label_width - width) - (label_height - height)) <= 2  # as a border on all sides does
    return None if equally and CUT < across < 1 / CUT else round(across, 2)


def sized(kind: str, facts: Sequence[Facts], said: str, fix: str, repair: str) -> Finding:
    def sizes(one: Facts) -> str:
        assert one.size is not None
        assert one.label_size is not None
        (width, height), (label_width, label_height) = one.size, one.label_size
        return f"the image is {width} x {height}, the mask {label_width} x {label_height}"

    return Finding(
        kind,
        Level.ERROR,
        f"{number(facts, 'mask')} that {said if len(facts) > 1 else in_singular(said)}",
        fix,
        files=tuple(one.label for one in facts if one.label),
        examples=tuple(Example(one.image, one.label, sizes(one)) for one in facts[:SHOWN]),
        repair=repair,
    )


def of_problems(
    problems: Sequence[DataError], *, split: str, classes_yaml: dict[str, Any] | None
) -> Iterator[Finding]:
    """The findings about a split as a whole, from what opening it reported. classes_yaml: one that fits the
    masks, where the data set's is wrong.
    """
    for problem in problems:
        missing = problem.files if isinstance(problem, MissingFilesError) else ()
        table = classes_yaml if problem.kind in ("classes_yaml", "ignore_inside_classes") else None
        yield Finding(
            "cannot_open" if problem.kind == "unreadable" else problem.kind,
            Level.ERROR,
            problem.message if f"split {split}" in problem.message else f"split {split}: {problem.message}",
            problem.hint or "see docs/data.md",
            files=tuple(missing),
            repair=LEFT_OUT if missing else "a classes.yaml with its classes in order" if table else "",
            details={"classes_yaml": table} if table else {},
        )
