"""Why the ids in masks are not those that the data set states. The causes are tried in an order: the first
that explains the ids of all masks is named.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from deeplabx.dataset import cityscapes
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Finding, Level, number
from deeplabx.dataset.check.known_values import (
    INSTANCES,
    PALETTE,
    PUBLISHED,
    luminance,
    palette_indices_of_greys,
    step_of,
)
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.check.value_table import Raw, Table, finding, missing_names, stray, summed, void_meaning
from deeplabx.dataset.contract import IGNORE_INDEX, MOST_IN_8_BITS
from deeplabx.dataset.labels import MAX_CLASSES, unpacked
from deeplabx.dataset.mask_values import GROUND, id_table
from deeplabx.errors import listed

STRAY = 0.01  # share of all pixels up to which unknown values are strays, not classes


def of_ids(facts: Sequence[Facts], stated: Stated) -> list[Finding]:
    """What the ids of all these masks have in common."""
    pixels = summed(facts)
    found = set(pixels)
    unknown = found - stated.train_ids.keys()
    classes = len(stated.names)
    void = stated.ignore_index
    rest = found - {void} if len(found) > 2 or void in stated.void() else found
    if not unknown:
        used = found - stated.void()
        if found == {0, IGNORE_INDEX} and len(used) == 1 and classes == 2:
            return [zero_255(facts, stated)]
        return []
    if found == {0, IGNORE_INDEX} and classes in (0, 2):
        return [zero_255(facts, stated)]
    if is_label_ids(found, stated):
        return [label_ids(facts, stated)]
    instances = {raw // INSTANCES for raw in found if raw >= INSTANCES}
    if instances and is_instances(pixels, stated, instances):
        return [instance_ids(facts, stated)]
    if classes and not stated.in_order:
        return [stray_or_unknown(facts, stated, unknown)]
    greys = palette_indices_of_greys(classes or 21)
    all_greys = {luminance(PALETTE[index]) for index in [*range(classes or 21), IGNORE_INDEX]}
    steps = step_of(found if classes and IGNORE_INDEX not in stated.void() else rest, classes=classes)
    if len(rest) > 1 and steps and (classes or len(found) > 2) and not set(steps) <= set(range(classes)):
        return [scaled_ids(facts, stated, steps, void=found - set(steps))]
    if len(found) > 2 and found <= all_greys:
        return [palette_as_grey(facts, stated, greys)]
    if classes and 0 not in found and max(rest) == classes:
        return [off_by_one(facts, stated)]
    if classes and rest <= set(range(classes + 1)) and stated.lower[0] not in GROUND and classes in rest:
        return [background_not_named(facts, stated)]
    return [stray_or_unknown(facts, stated, unknown)]


def stray_or_unknown(facts: Sequence[Facts], stated: Stated, unknown: set[int]) -> Finding:
    pixels = summed(facts)
    if stated.names and sum(pixels[raw] for raw in unknown) <= STRAY * sum(pixels.values()):
        return stray(facts, stated, unknown)
    return unknown_ids(facts, stated, pixels)


def zero_255(facts: Sequence[Facts], stated: Stated) -> Finding:
    names = list(stated.names) if len(stated.names) == 2 else ["background", "object"]
    ignored = IGNORE_INDEX in stated.void()
    what = "and 255 is ignored, so the foreground vanishes" if ignored else "and 255 is not known"
    return finding(
        "zero_255",
        facts,
        f"the masks hold 0 and 255, {what}",
        "in classes.yaml, give 255 the class of the foreground",
        table=Table(names, {0: names[0], IGNORE_INDEX: names[1]}, False),
        values={IGNORE_INDEX},
        stated=stated,
    )


def is_label_ids(found: set[int], stated: Stated) -> bool:
    """Whether Cityscapes' labelIds were taken for train ids."""
    names = [name.lower() for name in PUBLISHED["cityscapes"][0]]
    beyond = any(len(names) < raw < IGNORE_INDEX for raw in found)  # else they may be train ids + 1
    return list(stated.lower) == names and beyond and found <= {*cityscapes.FROM_LABEL_IDS}


def label_ids(facts: Sequence[Facts], stated: Stated) -> Finding:
    meaning = {
        raw: "ignore" if train_id == IGNORE_INDEX else stated.names[train_id]
        for raw, train_id in cityscapes.FROM_LABEL_IDS.items()
    }
    return finding(
        "label_ids_as_train_ids",
        facts,
        "the masks hold Cityscapes' labelIds (0 to 33), but classes.yaml takes them for train ids (0 to 18)",
        "map the labelIds to the classes in label_map, or use the labelTrainIds files",
        table=Table(list(stated.names), meaning, False),
        values=set(summed(facts)) - set(stated.train_ids),
        stated=stated,
    )


def is_instances(pixels: dict[int, int], stated: Stated, instances: set[int]) -> bool:
    known = set(stated.train_ids) or set(range(256))
    share = sum(count for raw, count in pixels.items() if raw >= INSTANCES) / sum(pixels.values())
    small = {raw for raw in pixels if raw < INSTANCES}
    return instances <= known and small <= known and share > STRAY


def instance_ids(facts: Sequence[Facts], stated: Stated) -> Finding:
    return finding(
        "instance_ids",
        facts,
        "the masks hold ids of instances, class id * 1000 + number, as Cityscapes' instanceIds",
        "use the masks of classes, or divide the ids from 1000 on by 1000",
        repair="ids from 1000 on are divided by 1000",
        values={raw for raw in summed(facts) if raw >= INSTANCES},
        stated=stated,
    )


def scaled_ids(facts: Sequence[Facts], stated: Stated, steps: dict[int, int], *, void: set[int]) -> Finding:
    names = list(stated.names) or [f"class_{index}" for index in range(max(steps.values()) + 1)]
    meaning = {raw: names[index] for raw, index in steps.items()}
    meaning |= dict.fromkeys(void, "ignore")
    meaning |= missing_names(names, meaning, {index: raw for raw, index in steps.items()})
    shown = ", ".join(map(str, sorted(steps)[:4]))
    return finding(
        "scaled_ids",
        facts,
        f"the masks hold {shown}, ...: ids that were stretched to be visible",
        "map them to the classes in label_map, or save the ids themselves",
        table=Table(names, meaning, False),
        values=set(steps) - set(stated.train_ids),
        stated=stated,
    )


def palette_as_grey(facts: Sequence[Facts], stated: Stated, greys: dict[int, int]) -> Finding:
    found = set(summed(facts))
    names = list(stated.names) or [f"class_{index}" for index in range(21)]
    meaning = {
        raw: "ignore" if greys.get(raw, IGNORE_INDEX) == IGNORE_INDEX else names[greys[raw]] for raw in found
    }
    lost = sorted(raw for raw in found if raw not in greys)
    meaning |= missing_names(names, meaning, {})
    more = f"; {listed(map(str, lost))} may be two classes each and become void" if lost else ""
    return finding(
        "palette_as_grey",
        facts,
        "the masks hold the grey of VOC's palette "
        f"({listed(map(str, sorted(found)), 4)}), not the ids: they were "
        f"read as colour images and converted to grey{more}",
        "use the original palette files: their indices are the ids",
        table=Table(names, meaning, False),
        values=found - set(stated.train_ids),
        stated=stated,
    )


def off_by_one(facts: Sequence[Facts], stated: Stated) -> Finding:
    names = list(stated.names)
    meaning = {index + 1: name for index, name in enumerate(names)}
    return finding(
        "off_by_one",
        facts,
        f"the masks hold ids from 1 to {len(names)} and no 0, but {len(names)} classes have the ids 0 to "
        f"{len(names) - 1}",
        "map 1 to the first class in label_map, 2 to the second, and so on",
        table=Table(names, meaning | void_meaning(stated, meaning, facts), False),
        values={len(names)},
        stated=stated,
    )


def background_not_named(facts: Sequence[Facts], stated: Stated) -> Finding:
    names = ["background", *stated.names]
    meaning = dict(enumerate(names))
    return finding(
        "background_not_named",
        facts,
        f"the masks hold ids from 0 to {len(names) - 1}, but classes.yaml names only "
        f"{len(names) - 1} classes",
        "name the background (0) too, or map 0 to ignore if it is void",
        table=Table(names, meaning | void_meaning(stated, meaning, facts), False),
        values={len(names) - 1},
        stated=stated,
    )


def unknown_ids(facts: Sequence[Facts], stated: Stated, pixels: dict[int, int]) -> Finding:
    ids = sorted(pixels)
    shown = f"{len(ids)} ids, {listed(map(str, ids), 6)}"
    if len(ids) > MAX_CLASSES:
        return finding(
            "too_many_ids",
            facts,
            f"the masks hold {shown}: too many to be classes",
            "use masks of classes, not of instances",
            stated=stated,
        )
    names = list(stated.names)
    stating = f"classes.yaml names {len(names)} classes" if names else "no classes.yaml says what they are"
    table = table_with_new(ids, stated)
    return finding(
        "unknown_ids",
        facts,
        f"the masks hold {shown}; {stating}",
        "say in classes.yaml what each id is",
        table=table if len(ids) <= MOST_IN_8_BITS + 1 else None,
        values=set(ids) - set(stated.train_ids),
        stated=stated,
    )


def table_with_new(ids: Sequence[int], stated: Stated) -> Table:
    """The stated ids as they are, and a new class for each other one; the names in order only where there are
    as many, and no id but 0 is stated.
    """
    fits: dict[int, str] = {}
    if not stated.names or (stated.in_order and not set(ids) & (stated.train_ids.keys() - {0})):
        fits = {int(raw): str(name) for raw, name in id_table(ids, names=list(stated.names)).items()}
    if stated.names and not set(fits.values()) <= {*stated.names, "ignore"}:
        fits = {}
    if not fits:
        fits = stated.meaning | {raw: new_name(raw, stated) for raw in ids if raw not in stated.train_ids}
    names = [name for name in dict.fromkeys([*stated.names, *fits.values()]) if name != "ignore"]
    return Table(names, fits | missing_names(names, fits, {}), False)


def new_name(raw: Raw, stated: Stated) -> str:
    name = f"class_{'_'.join(map(str, unpacked(raw))) if stated.by_colour else raw}"
    return name if name not in stated.names else f"new_{name}"


def palettes_differ(facts: Sequence[Facts], stated: Stated) -> Iterator[Finding]:
    """Palette files in which an id has another colour than in others, and the colour another id: the program
    that saved them numbered the colours of each file separately.
    """
    ids_of: dict[int, set[int]] = {}
    colours_of: dict[int, set[int]] = {}
    for one in facts:
        for raw, colour in one.palette.items():
            ids_of.setdefault(colour, set()).add(raw)
            colours_of.setdefault(raw, set()).add(colour)
    moved = {colour for colour, ids in ids_of.items() if len(ids) > 1 and colour}  # black also fills palettes
    mixed = {raw for raw, colours in colours_of.items() if len(colours & moved) > 1}
    if len(mixed) < 2:
        return
    hit = [one for one in facts if any(one.palette.get(raw) in moved for raw in mixed)]
    raw = min(mixed)
    shown = " and ".join(str(unpacked(colour)) for colour in sorted(colours_of[raw] & moved)[:2])
    yield replace(
        finding(
            "palettes_differ",
            hit,
            f"{number(hit, 'mask')} whose palettes number the same colours in different ways: id {raw} is "
            f"{shown}",
            "if the colours are the classes, save the masks with one palette, or as RGB with the colours in "
            "classes.yaml",
            values=mixed,
            stated=stated,
        ),
        level=Level.WARNING,
    )
