"""Images and labels that can be read but hold nothing to learn from, and classes in an unexpected order."""

from collections import Counter
from collections.abc import Iterator, Sequence

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import SHOWN, Example, Finding, Level, number
from deeplabx.dataset.check.known_values import published_order
from deeplabx.dataset.mask_values import GROUND

BACKGROUND = 0.99  # share of the pixels of areas without data, from which on they have one class


def of_content(facts: Sequence[Facts], names: Sequence[str]) -> Iterator[Finding]:
    constant = [one for one in facts if one.constant]
    if constant:
        yield shown(
            "constant_image",
            Level.WARNING,
            constant,
            f"{number(constant, 'image')} of a single colour each",
            "they may be empty tiles or damaged; remove them",
            repair="these samples are left out",
        )
    empty = [one for one in facts if one.no_data]
    if empty:
        yield from of_no_data(empty, facts, names)
    void = [one for one in facts if one.pixels is not None and one.pixels.sum() and not one.pixels[:-1].any()]
    if void:
        yield shown(
            "void_label",
            Level.ERROR if len(void) == len(facts) else Level.WARNING,
            void,
            f"{number(void, 'label')} without a pixel that is not void",
            "check that label_map and ignore mean the right values; remove samples without labels",
            repair="" if len(void) == len(facts) else "these samples are left out",
        )
    used = {
        index for one in facts if one.pixels is not None for index in one.pixels[:-1].nonzero()[0].tolist()
    }
    if len(used) == 1 and len(names) > 1:
        only = names[used.pop()]
        yield Finding(
            "single_class",
            Level.ERROR,
            f"all labels have one class, {only}, apart from void: there is nothing to learn",
            "is the value of a class ignored, or mapped to another one?",
        )


def of_no_data(empty: Sequence[Facts], facts: Sequence[Facts], names: Sequence[str]) -> Iterator[Finding]:
    """Areas without data. They are as they should be where the label is the background, or where one class is
    always the label and most images have them: the black around an X-ray or a retina.
    """
    under = sum((Counter(one.no_data) for one in empty), Counter())
    ground = {index for index, name in enumerate(names) if name.lower() in GROUND}
    if 2 * len(empty) > len(facts):
        ground |= {index for index, count in under.items() if count > BACKGROUND * under.total()}
    faulty: list[Facts] = []
    right: list[Facts] = []
    for one in empty:
        own = sum(count for index, count in one.no_data.items() if index in ground)
        (right if own > BACKGROUND * sum(one.no_data.values()) else faulty).append(one)
    if faulty:
        yield shown(
            "no_data",
            Level.WARNING,
            faulty,
            f"{in_words(faulty)}, whose label is a class",
            "label these areas as void (255), so that they are not learned",
            repair="these pixels become void",
        )
    if right:
        yield shown(
            "no_data",
            Level.NOTE,
            right,
            f"{in_words(right)}, whose label is the background",
            "nothing, if the network is to predict that there; else label these areas as void",
        )


def in_words(empty: Sequence[Facts]) -> str:
    share = max(sum(one.no_data.values()) / (one.size[0] * one.size[1]) for one in empty if one.size)
    areas = "a black or white area without data at the border"
    return f"{number(empty, 'image')} with {areas}, of up to {share:.0%}"


def of_order(names: Sequence[str]) -> Iterator[Finding]:
    """Whether the classes are those of a known data set in another order than published."""
    lower = [name.lower() for name in names]
    known = published_order(lower)
    if known is None or known[1] == lower:
        return
    name, order = known
    place = next(index for index, (own, other) in enumerate(zip(lower, order, strict=True)) if own != other)
    by_name = {one.lower(): one for one in names}
    yield Finding(
        "class_order",
        Level.WARNING,
        f"the classes are those of {name} in another order: {place} is {names[place]!r}, "
        f"but {by_name[order[place]]!r} "
        f"in {name}; masks with its ids would be read as other classes",
        f"write the classes in the order of {name}, unless the masks have ids of your own",
        details={"published": [by_name[one] for one in order]},
    )


def shown(
    kind: str, level: Level, facts: Sequence[Facts], words: str, fix: str, *, repair: str = ""
) -> Finding:
    return Finding(
        kind,
        level,
        words,
        fix,
        files=tuple(path for one in facts if (path := one.image)),
        examples=tuple(Example(one.image, one.label) for one in facts[:SHOWN]),
        repair=repair,
        details={"remove": [str(one.image) for one in facts]} if kind != "no_data" and repair else {},
    )
