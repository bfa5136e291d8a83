"""Why masks hold colours, or other colours than the data set states."""

from collections.abc import Sequence
from dataclasses import replace

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Finding, number
from deeplabx.dataset.check.id_values import STRAY, new_name, of_ids
from deeplabx.dataset.check.known_values import INDEX_OF, PALETTE, PUBLISHED, VOID_COLOURS
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.check.value_table import Raw, Table, finding, stray, summed
from deeplabx.dataset.labels import MAX_CLASSES, packed, unpacked
from deeplabx.errors import listed


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
    void_colours = set(map(packed, VOID_COLOURS))
    if not stated.by_colour:
        names_of = {packed(colour): name for colour, name in zip(stated.palette, stated.names, strict=False)}
        rest = found - names_of.keys()
        if len(found & names_of.keys()) > 1 and rest <= void_colours:
            void = dict.fromkeys(rest, "ignore")
            own_palette = stated.palette != PALETTE[: len(stated.names)]
            source = "the colours of classes.yaml" if own_palette else "the colours of VOC's palette"
            return Table(list(stated.names), names_of | void, True), source
    for name, (classes, palette) in PUBLISHED.items():
        if name != "voc" and list(stated.lower) == [one.lower() for one in classes]:
            own = {packed(colour): stated.names[index] for index, colour in enumerate(palette)}
            if found & own.keys() and found <= {*own, 0}:  # black is void
                void = dict.fromkeys(found - own.keys(), "ignore")
                return Table(list(stated.names), own | void, True), f"the colours of {name}"
    rest = found - void_colours
    if len(rest) < 2 or not rest <= INDEX_OF.keys():
        return None, ""
    indices = sorted(INDEX_OF[raw] for raw in rest)
    if stated.names and indices[-1] >= len(stated.names):
        return None, ""
    by_index = dict(enumerate(stated.names)) or {
        index: f"class_{index}" if index else "background" for index in indices
    }
    meaning = {packed(PALETTE[index]): name for index, name in by_index.items()}
    void = dict.fromkeys(found & void_colours, "ignore")
    table = Table(list(by_index.values()), void | meaning, True)
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
    found = set(summed(facts))
    table, source = colours_of_palette(found, stated)
    if all(is_grey(raw) and raw & 255 in stated.meaning for raw in found):  # three equal channels of ids
        greys = {raw: stated.meaning[raw & 255] for raw in found}
        table, source = Table(list(stated.names), greys, True), "three equal channels of ids"
    mended = table is not None and bool(stated.names)
    return finding(
        "colours_among_ids",
        facts,
        f"{number(facts, 'mask')} of colours among masks of ids" + (f", with {source}" if source else ""),
        "save them as palette or grey files of ids",
        repair="their colours become ids" if mended else "",
        values=found,
        stated=stated,
        by_colour=True,
        colours=dict(table.meaning) if table and mended else None,
    )
