"""Why the raw values of masks are not those that the data set states, and the table that would be right.

The causes are tried in an order: what a single mask shows of itself (smooth edges, compression), then what
the values of all masks have in common. The first that explains them all is named.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from deeplabx.dataset import cityscapes
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Example, Finding, Level, number
from deeplabx.dataset.check.known_values import (
    INDEX_OF,
    INSTANCES,
    PALETTE,
    PUBLISHED,
    VOID_COLOUR,
    luminance,
    palette_indices_of_greys,
    step_of,
)
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.contract import IGNORE_INDEX, MOST_IN_8_BITS
from deeplabx.dataset.labels import MAX_CLASSES, packed, unpacked
from deeplabx.dataset.mask_values import GROUND, id_table
from deeplabx.errors import listed

# Shares of label maps that were neither resized nor compressed stay below a fifth of these: 1,163 masks of
# VOC, CamVid, Cityscapes, COCO-Stuff and ADE20K.
SMOOTH = 0.15  # of the changes along rows, those that are part of a ramp
STRONG = 0.3  # the same, where only a few masks are smooth
A_FEW = 0.1
NOISY = 0.03  # of all pixels, those that differ from all their neighbours
FEW_CHANGES = 40  # a mask with fewer says nothing about its edges
STRAY = 0.01  # share of all pixels up to which unknown values are strays, not classes
PEAK = 0.005  # share of all pixels, from which on a value in damaged masks is one of a class
# Grey levels between the values of two classes: compression noise does not reach from one to the other.
APART = 16
SHOWN = 3  # examples of a finding

Raw = int  # an id, or a packed colour


class Table(NamedTuple):
    """What the raw values mean: a class name, or `ignore`, for each."""

    names: list[str]
    meaning: dict[Raw, str]
    by_colour: bool

    def to_plain(self) -> dict[str, Any]:
        """The content of a classes.yaml."""
        shown = {
            ",".join(map(str, unpacked(raw))) if self.by_colour else raw: name
            for raw, name in sorted(self.meaning.items())
        }
        return {"classes": self.names, "label_map": shown}

    @classmethod
    def from_plain(cls, plain: dict[str, Any] | None) -> "Table | None":
        """The inverse of `to_plain`; None of None."""
        if plain is None:
            return None
        by_colour = any(isinstance(raw, str) for raw in plain["label_map"])
        meaning: dict[Raw, str] = {}
        for raw, name in plain["label_map"].items():
            if by_colour:
                red, green, blue = map(int, raw.split(","))
                meaning[packed((red, green, blue))] = name
            else:
                meaning[int(raw)] = name
        return cls(list(plain["classes"]), meaning, by_colour)


def of_values(facts: Sequence[Facts], stated: Stated) -> list[Finding]:
    """The findings about raw values; none where each is stated and no mask is damaged."""
    with_mask = [one for one in facts if one.label is not None and one.raw]
    damaged = [*damaged_edges(with_mask, stated)]
    hit = {path for finding in damaged for path in finding.files}
    rest = [one for one in with_mask if one.label not in hit]
    if not rest and not stated.by_colour:  # what most pixels hold
        rest = [replace(one, raw=peaks(with_mask, stated, by_colour=one.by_colour)) for one in with_mask[:1]]
    colours = [one for one in rest if one.by_colour]
    ids = [one for one in rest if not one.by_colour]
    found = list(damaged)
    if stated.by_colour or not ids:
        found += of_colours(colours, stated)
    else:
        found += of_ids(ids, stated)
        found += palettes_differ(ids, stated)
        if colours:
            found.append(colours_among_ids(colours, stated))
    return found


def table_in_order(facts: Sequence[Facts], stated: Stated) -> Table | None:
    """The table of classes in order, where the data set's own cannot be read whole and the ids fit its
    names.
    """
    found = {raw for one in facts for raw in one.raw}
    if stated.train_ids or not stated.names or any(one.by_colour for one in facts if one.raw):
        return None
    if not found <= {*range(len(stated.names)), IGNORE_INDEX}:
        return None
    meaning = dict(enumerate(stated.names))
    return Table(
        list(stated.names), meaning | ({} if IGNORE_INDEX in meaning else {IGNORE_INDEX: "ignore"}), False
    )


# --- single masks -------------------------------------------------------------------------------------------


def damaged_edges(facts: Sequence[Facts], stated: Stated) -> Iterator[Finding]:
    """Masks that were resized with interpolation, drawn with anti-aliasing, or compressed with losses."""
    lossy, noisy, smooth, rest = (list[Facts]() for _ in range(4))
    for one in facts:
        is_lossy = any(problem.kind == "lossy_mask" for problem in one.problems)
        kind = lossy if is_lossy else noisy if is_noisy(one, stated) else smooth if is_smooth(one) else rest
        kind.append(one)
    if len(smooth) < A_FEW * len(facts):  # areas side by side look like ramps by chance
        smooth, less = [
            [one for one in smooth if is_smooth(one, share=STRONG) == own] for own in (True, False)
        ]
        rest += less
    if 2 * len(noisy + smooth) >= len(facts):  # the others were made in the same way, with fewer traces of it
        known = stated.train_ids.keys()
        more = [one for one in rest if one.raw.keys() - known]
        (noisy if len(noisy) > len(smooth) else smooth).extend(more)
    repair = "pixels whose class is certain keep it, the others become void"
    if lossy:
        yield finding(
            "lossy_mask",
            lossy,
            f"{number(lossy, 'mask')} in a format with lossy compression (JPEG), which changes ids",
            "export the masks again, as PNG",
            repair=repair,
            stated=stated,
        )
    if noisy:
        yield finding(
            "compressed_mask",
            noisy,
            f"{number(noisy, 'mask')} with compression noise: they were a JPEG before",
            "export the masks again from what they were before, as PNG",
            repair=repair,
            stated=stated,
        )
    if smooth:
        yield finding(
            "smooth_edges",
            smooth,
            f"{number(smooth, 'mask')} with smooth edges: values between two classes, from resizing with "
            "interpolation or from anti-aliasing",
            "export the masks again without anti-aliasing, and resize masks with nearest neighbour",
            repair=repair,
            stated=stated,
        )


def is_noisy(one: Facts, stated: Stated) -> bool:
    """Not so a map whose regions are as small as pixels: its values are those of classes."""
    assert one.edges is not None
    pixels = sum(one.raw.values())
    many = one.values > 8 and 2 * len(one.solid) < one.values + len(stated.names)
    return one.edges.alone > NOISY * pixels and many and bool(one.raw.keys() - stated.train_ids.keys())


def is_smooth(one: Facts, *, share: float = SMOOTH) -> bool:
    """Interpolation leaves ramps, along rows and along columns, and few lines of a single pixel; in noise and
    in regions as small as pixels there are more of these. share: of the changes, that are part of a ramp.
    """
    assert one.edges is not None
    ways = [way for way in (one.edges.across, one.edges.down) if way.changes >= FEW_CHANGES]
    return bool(ways) and all(way.ramps > max(share * way.changes, way.lines) for way in ways)


def peaks(facts: Sequence[Facts], stated: Stated, *, by_colour: bool) -> dict[Raw, int]:
    """The values that most pixels of damaged masks hold: each stands for those around it, and a stated value
    for all that are near.
    """
    pixels: dict[Raw, int] = {}
    for one in facts:
        for raw, count in one.solid.items() if one.by_colour == by_colour else ():
            pixels[raw] = pixels.get(raw, 0) + count
    chosen: dict[Raw, int] = {}
    known = list(stated.train_ids) if stated.by_colour == by_colour else []
    for raw, count in sorted(pixels.items(), key=lambda item: -item[1]):
        if count < PEAK * sum(pixels.values()):
            break
        near = [other for other in known if distance(raw, other, by_colour=by_colour) <= APART]
        raw = near[0] if near else raw
        if all(distance(raw, other, by_colour=by_colour) > APART for other in chosen):
            chosen[raw] = count
    return chosen


def distance(raw: Raw, other: Raw, *, by_colour: bool) -> int:
    """Of two values, in grey levels; of colours, in the channel in which they differ most."""
    if not by_colour:
        return abs(raw - other)
    return max(abs(one - two) for one, two in zip(unpacked(raw), unpacked(other), strict=True))


# --- ids ----------------------------------------------------------------------------------------------------


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


def summed(facts: Iterable[Facts]) -> dict[Raw, int]:
    """The pixels of each raw value in all masks."""
    pixels: dict[Raw, int] = {}
    for one in facts:
        for raw, count in one.raw.items():
            pixels[raw] = pixels.get(raw, 0) + count
    return pixels


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


def missing_names(names: Sequence[str], meaning: dict[Raw, str], taken: dict[int, Raw]) -> dict[Raw, str]:
    """A raw value for each class that no mask holds, as a label_map has to name every class: the class's id,
    or the next value that is free.
    """
    used = set(meaning.values())
    added: dict[Raw, str] = {}
    for index, name in enumerate(names):
        if name not in used:
            free = next(
                raw for raw in (index, *range(256, 65_536)) if raw not in meaning and raw not in added
            )
            added[free] = name
    return added


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


def void_meaning(stated: Stated, meaning: dict[Raw, str], facts: Sequence[Facts]) -> dict[Raw, str]:
    """255 and what the data set ignores stay void, unless they are classes now."""
    voids = {*stated.void(), *({IGNORE_INDEX} & set(summed(facts)))}
    return {raw: "ignore" for raw in voids if raw not in meaning}


def stray(facts: Sequence[Facts], stated: Stated, unknown: set[int]) -> Finding:
    hit = [one for one in facts if unknown & one.raw.keys()]
    kind = "colours" if stated.by_colour else "ids"
    shown = [stated.shown(raw) for raw in sorted(unknown)]
    pixels = sum(count for one in hit for raw, count in one.raw.items() if raw in unknown)
    meaning = stated.meaning
    return finding(
        "id_out_of_range",
        hit,
        f"{number(hit, 'mask')} with {kind} that are no class: "
        f"{listed(map(str, shown), 6)} ({pixels:,} pixels)",
        "map them to ignore in classes.yaml if they are void, else give each a class",
        table=Table(list(stated.names), meaning | dict.fromkeys(unknown, "ignore"), stated.by_colour),
        values=unknown,
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
    that saved them numbered the colours of each file anew.
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


# --- colours ------------------------------------------------------------------------------------------------


def of_colours(facts: Sequence[Facts], stated: Stated) -> list[Finding]:
    """What the colours of all these masks have in common."""
    if not facts:
        return []
    pixels = summed(facts)
    found, classes = set(pixels), len(stated.names)
    unknown = found - stated.train_ids.keys() if stated.by_colour else found
    if not unknown:
        return []
    if not stated.by_colour and all(is_grey(raw) for raw in found):
        return [grey_as_colour(facts, stated)]
    table, source = colours_of_palette(found, stated)
    if table is not None and not contradicts(table, stated):
        return [
            finding(
                "palette_as_colour",
                facts,
                f"the masks are colour images with {source}, not ids",
                "map the colours to the classes in label_map, or save the masks as palette files",
                table=table,
                values=unknown,
                stated=stated,
                by_colour=True,
            )
        ]
    share = sum(pixels[raw] for raw in unknown) / sum(pixels.values())
    if stated.by_colour and classes and share <= STRAY:
        return [stray(facts, stated, unknown)]
    if len(found) > MAX_CLASSES:
        return [
            finding(
                "too_many_colours",
                facts,
                f"the masks hold {len(found)} colours: too many to be classes",
                "save the masks again with one colour per class, without anti-aliasing, as PNG",
                stated=stated,
                by_colour=True,
            )
        ]
    return [rgb_masks(facts, stated, sorted(found))]


def contradicts(table: Table, stated: Stated) -> bool:
    """Whether the data set itself says something else of one of the colours."""
    own = stated.meaning if stated.by_colour else {}
    return any(table.meaning.get(raw, name) != name for raw, name in own.items())


def is_grey(raw: Raw) -> bool:
    red, green, blue = unpacked(raw)
    return red == green == blue


def grey_as_colour(facts: Sequence[Facts], stated: Stated) -> Finding:
    """Colour images whose three channels are equal: ids, or values that stand for ids in one of the other
    ways.
    """
    ids = [
        replace(one, by_colour=False, raw={raw & 255: count for raw, count in one.raw.items()})
        for one in facts
    ]
    inner = next(iter(of_ids(ids, stated)), None)
    own = Table(list(stated.names), dict(stated.meaning), False)
    table = own if inner is None else Table.from_plain(inner.details.get("classes_yaml"))
    grey = {raw * 0x010101: name for raw, name in table.meaning.items() if raw < 256} if table else {}
    lost = set(table.names) - set(grey.values()) if table else set()
    return finding(
        "grey_as_colour",
        facts,
        "the masks are colour images with three equal channels, where one channel of ids is expected"
        + (f"; and {inner.words}" if inner else ""),
        "save one of the channels as a grey file" + (f"; {inner.fix}" if inner else ""),
        table=Table(table.names, grey, True) if table and not lost else None,
        values=set(summed(facts)),
        stated=stated,
        by_colour=True,
    )


def colours_of_palette(found: set[Raw], stated: Stated) -> tuple[Table | None, str]:
    """The table of masks that hold the colours of the data set's own palette or a known one, and whose it
    is.
    """
    if not stated.by_colour:
        names_of = {packed(colour): name for colour, name in zip(stated.palette, stated.names, strict=False)}
        if len(found & names_of.keys()) > 1 and found <= {*names_of, packed(VOID_COLOUR)}:
            void = {packed(VOID_COLOUR): "ignore"} if packed(VOID_COLOUR) not in names_of else {}
            own_palette = stated.palette != PALETTE[: len(stated.names)]
            source = "the colours of classes.yaml" if own_palette else "the colours of VOC's palette"
            return Table(list(stated.names), names_of | void, True), source
    for name, (classes, palette) in PUBLISHED.items():
        if name != "voc" and list(stated.lower) == [one.lower() for one in classes]:
            own = {packed(colour): stated.names[index] for index, colour in enumerate(palette)}
            if found & own.keys() and found <= {*own, 0}:  # black is void
                void = dict.fromkeys(found - own.keys(), "ignore")
                return Table(list(stated.names), own | void, True), f"the colours of {name}"
    void_colour = packed(VOID_COLOUR)
    rest = found - {void_colour}
    if len(rest) < 2 or not rest <= INDEX_OF.keys():
        return None, ""
    indices = sorted(INDEX_OF[raw] for raw in rest)
    if stated.names and indices[-1] >= len(stated.names):
        return None, ""
    by_index = dict(enumerate(stated.names)) or {
        index: f"class_{index}" if index else "background" for index in indices
    }
    meaning = {packed(PALETTE[index]): name for index, name in by_index.items()}
    table = Table(list(by_index.values()), meaning | {void_colour: "ignore"}, True)
    return table, "the colours of VOC's palette"


def rgb_masks(facts: Sequence[Facts], stated: Stated, colours: list[Raw]) -> Finding:
    own = stated.meaning if stated.by_colour else {}
    if own:
        meaning = own | {raw: new_name(raw, stated) for raw in colours if raw not in own}
    else:
        more = [0xFFFFFF if colours[0] != 0xFFFFFF else 0] if len(colours) < 2 else []
        colours = [*colours, *more]
        meaning = {
            raw: "background" if not raw else "object" if len(colours) == 2 else f"class_{index}"
            for index, raw in enumerate(colours)
        }
        if set(colours) == {0, 0xFFFFFF} and len(stated.names) == 2:
            meaning = dict(zip(sorted(colours), stated.names, strict=True))
    every = dict.fromkeys([*(stated.names if own else ()), *meaning.values()])
    names = [name for name in every if name != "ignore"]
    shown = listed((str(unpacked(raw)) for raw in colours), 4)
    stating = "some of which classes.yaml does not know" if own else "but ids are expected"
    return finding(
        "rgb_masks",
        facts,
        f"the masks are colour images with {number(colours, 'colour')}, {stating}: {shown}",
        "say in classes.yaml which class each colour is; fix=true writes the table, for "
        "you to put the names in",
        table=Table(names, meaning, True),
        values=set(colours) - own.keys(),
        stated=stated,
        by_colour=True,
    )


def colours_among_ids(facts: Sequence[Facts], stated: Stated) -> Finding:
    """A few masks of colours in a set of masks of ids."""
    table, source = colours_of_palette(set(summed(facts)), stated)
    mended = table is not None and bool(stated.names)
    return finding(
        "colours_among_ids",
        facts,
        f"{number(facts, 'mask')} of colours among masks of ids" + (f", with {source}" if source else ""),
        "save them as palette or grey files of ids",
        repair="their colours become ids" if mended else "",
        values=set(summed(facts)),
        stated=stated,
        by_colour=True,
        colours=dict(table.meaning) if table and mended else None,
    )


# --- a finding ----------------------------------------------------------------------------------------------


def finding(
    kind: str,
    facts: Sequence[Facts],
    words: str,
    fix: str,
    *,
    stated: Stated,
    table: Table | None = None,
    repair: str = "",
    values: set[Raw] | None = None,
    by_colour: bool | None = None,
    colours: dict[Raw, str] | None = None,
) -> Finding:
    """An error in these masks. values: raw values at fault, by which examples are chosen; where there are
    none, each value that is not stated.
    """
    wrong = (
        values if values is not None else {raw for one in facts for raw in one.raw} - set(stated.train_ids)
    )
    hit = [one for one in facts if wrong & one.raw.keys()] or list(facts)
    most = sorted(hit, key=lambda one: -sum(one.raw.get(raw, 0) for raw in wrong))[:SHOWN]
    details: dict[str, Any] = {}
    if table is not None:
        details["classes_yaml"] = table.to_plain()
    if colours is not None:
        details["colours"] = {",".join(map(str, unpacked(raw))): name for raw, name in colours.items()}
    return Finding(
        kind,
        Level.ERROR,
        words,
        fix,
        files=tuple(path_of(one) for one in facts),
        examples=tuple(
            Example(one.image, one.label, "", tuple(sorted(wrong & one.raw.keys()))) for one in most
        ),
        repair=repair or ("a classes.yaml for these values" if table is not None else ""),
        details=details,
    )


def path_of(one: Facts) -> Path:
    assert one.label is not None
    return one.label
