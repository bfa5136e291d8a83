"""A comparison as a page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.report.compare.comparison import (
    SAME,
    WORSE,
    Comparison,
    Row,
    interval_of,
    notes,
    one_machine,
)
from deeplabx.report.compare.entries import Entry, value_words
from deeplabx.report.compare.images import Example, Examples
from deeplabx.report.compare.tables import cost_words, interval_words, p_words, points
from deeplabx.report.label_overlay import label_overlay
from deeplabx.report.overlay import as_rgb
from deeplabx.report.page import (
    Beside,
    Block,
    Card,
    Cell,
    Code,
    Details,
    Figure,
    Fixed,
    Gallery,
    Intervals,
    Legend,
    Names,
    Point,
    Scatter,
    Section,
    Swatch,
    Table,
    Text,
    Tiles,
    write_page,
)
from deeplabx.report.page.charts import number_words, shortened
from deeplabx.report.page.images import nearest, shrunk

SIDE = 320  # pixels of an image on the page
MOST_CLASSES = 40  # in a chart; the table has all
AXES = (
    ("multiply_adds", "multiply-adds", True),
    ("parameters", "parameters", True),
    ("images_per_second", "images per second", False),
)


def write_compare_page(
    path: Path, title: str, comparison: Comparison, examples: Sequence[Examples], *, words: Sequence[str]
) -> None:
    blocks: list[Block] = [
        Section("Result", result_blocks(comparison, words)),
        Section("Cost and gain", cost_blocks(comparison)),
        Section("Classes", class_blocks(comparison)),
    ]
    if examples:
        blocks.append(Section("Images that differ most", image_blocks(comparison, examples)))
    blocks.append(Section("Settings", setting_blocks(comparison)))
    blocks.append(
        Section("How this was measured", [Text("\n\n".join(sentence(one) for one in notes(comparison)))])
    )
    write_page(path, "Comparison", blocks, words=title)


def sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


# --- result -------------------------------------------------------------------------------------------------


def result_blocks(comparison: Comparison, words: Sequence[str]) -> list[Block]:
    blocks: list[Block] = []
    if words:
        said: list[Block] = [Text(sentence(one)) for one in words]
        blocks.append(Card("warning", "Not everything is compared", said))
    blocks += [Text(summary(comparison)), Tiles(tiles(comparison)), table(comparison)]
    blocks.append(
        Text(
            "mIoU is in percent, differences are in percentage points. ± is the standard deviation over n "
            "runs that differ in seed or fold. p is the probability of a difference at least this large if "
            "there were none in truth.",
            quiet=True,
        )
    )
    return blocks


def summary(comparison: Comparison) -> str:
    """One sentence for who reads nothing else."""
    reference, others = comparison.reference, comparison.others
    same = [row for row in others if row.finding == SAME]
    if comparison.baseline:
        better = [row for row in others if row.finding not in (SAME, WORSE)]
        first = others[0]
        if better:
            name = better[0].entry.name
            return f"{name} is better than the baseline {reference.name}: {gain_words(better[0])}."
        return (
            f"Nothing is shown to be better than the baseline {reference.name}. The next is "
            f"{first.entry.name}: {gain_words(first)}."
        )
    if len(same) == len(others):
        return f"{reference.name} has the highest mIoU, but these images do not show that it is the best."
    if same:
        names = ", ".join(row.entry.name for row in same[:3]) + (" and others" if len(same) > 3 else "")
        return f"{reference.name} is the best. No difference can be shown to {names}; all others are worse."
    next_one = others[0]
    return (
        f"{reference.name} is better than every other entry. The next is {next_one.entry.name}: "
        f"{gain_words(next_one)}."
    )


def gain_words(row: Row) -> str:
    assert row.against is not None
    return (
        f"{points(row.against.miou, sign=True)} points ({interval_words(row.against.interval)}), {row.sure}"
    )


def tiles(comparison: Comparison) -> list[tuple[str, Cell]]:
    reference = comparison.reference
    unit = next(row.against for row in comparison.others if row.against is not None)
    runs = sum(len(row.entry.runs) for row in comparison.rows)
    what = "mIoU of the baseline" if comparison.baseline else "best mIoU"
    return [
        (what, f"{points(reference.miou)} %"),
        ("entries", len(comparison.rows)),
        ("runs", runs),
        (unit.over, unit.units),
    ]


def table(comparison: Comparison) -> Table:
    columns = ["entry", "mIoU", "±", "n", "difference", "95 % interval", "p", "verdict"]
    columns += ["parameters", "multiply-adds", "images/s", "memory"]
    same = one_machine(comparison)
    rows: list[list[Cell]] = [
        [
            numbered(row.entry, comparison),
            points(row.entry.miou),
            points(row.entry.std),
            len(row.entry.runs),
            "" if row.against is None else points(row.against.miou, sign=True),
            "" if row.against is None else interval_words(row.against.interval),
            p_words(row.p),
            row.verdict(baseline=comparison.baseline),
            *cost_words(row.entry, same_machine=same),
        ]
        for row in comparison.rows
    ]
    return Table(columns, rows)


# --- cost ---------------------------------------------------------------------------------------------------


def cost_blocks(comparison: Comparison) -> list[Block]:
    charts: list[Block] = []
    said = []
    bars = [bar_of(row.entry, comparison) for row in comparison.rows]
    for name, words, less in AXES:
        if name == "images_per_second" and not one_machine(comparison):
            said.append("Images per second were not measured on one machine, so they are not drawn.")
            continue
        drawn = [
            Point(point_name(row.entry, comparison), x, 100 * row.entry.miou, *bar)
            for row, bar in zip(comparison.rows, bars, strict=True)
            if (x := row.entry.cost(name)) is not None
        ]
        if len(drawn) < len(bars):
            number = len(bars) - len(drawn)
            said.append(f"{number} entries have no {words} in their evaluation and are not in that chart.")
        if len(drawn) > 1:
            xs = [one.x for one in drawn]
            if min(xs) == max(xs):
                said.append(f"All have the same {words}: {number_words(xs[0])}.")
                continue
            wide = min(xs) > 0 and max(xs) > 8 * min(xs)
            charts.append(
                Scatter(f"mIoU against {words}", drawn, words, "mIoU %", less=less, logarithmic=wide)
            )
    what = "Bars are the standard deviation over runs, or, of a single run, the 95 % interval over images."
    end: list[Block] = [Text(" ".join(said), quiet=True)] if said else []
    if not charts:
        return end
    return [
        Beside(charts) if len(charts) > 1 else charts[0],
        Text(f"The line joins the Pareto front: entries that no other one beats in both. {what}", quiet=True),
        *end,
    ]


def numbered(entry: Entry, comparison: Comparison) -> str:
    """An entry by its place in the table and its name."""
    return f"{number_of(entry, comparison)} · {entry.name}"


def number_of(entry: Entry, comparison: Comparison) -> int:
    return 1 + next(at for at, row in enumerate(comparison.rows) if row.entry is entry)


def point_name(entry: Entry, comparison: Comparison) -> str:
    """Beside a point: the number alone where the name is too long to be shown."""
    whole = numbered(entry, comparison)
    return whole if shortened(whole) == whole else f"{number_of(entry, comparison)}"


def bar_of(entry: Entry, comparison: Comparison) -> tuple[float, float]:
    """The ends of an entry's error bar, in percent."""
    interval = interval_of(entry, resamples=comparison.resamples, seed=comparison.seed)
    if interval is not None:
        return 100 * interval[0], 100 * interval[1]
    spread = entry.std or 0.0
    return 100 * (entry.miou - spread), 100 * (entry.miou + spread)


# --- classes ------------------------------------------------------------------------------------------------


def class_blocks(comparison: Comparison) -> list[Block]:
    """The differences of each class, sorted; of further entries folded."""
    found: list[Block] = []
    for number, row in enumerate(comparison.others):
        blocks = difference_blocks(row, comparison)
        first, second = numbered(row.entry, comparison), numbered(comparison.reference, comparison)
        heading = f"{first}, minus {second}"
        found.append(Section(heading, blocks) if number == 0 else Details(heading, blocks))
    return found


def difference_blocks(row: Row, comparison: Comparison) -> list[Block]:
    against = row.against
    assert against is not None
    record = comparison.reference.runs[0].record
    colours = dict(zip(record.classes, record.palette, strict=True))
    values = {name: value for name, value in against.per_class.items() if value is not None}
    order = sorted(values, key=lambda name: -values[name])
    shown = (
        order if len(order) <= MOST_CLASSES else [*order[: MOST_CLASSES // 2], *order[-MOST_CLASSES // 2 :]]
    )
    of = "" if shown is order else f" (the {len(shown)} that differ most of {len(order)} classes)"
    ends = [against.class_intervals[name] for name in shown]
    chart = Intervals(
        f"Difference of each class's IoU{of}",
        shown,
        [100 * values[name] for name in shown],
        [None if one is None else (100 * one.low, 100 * one.high) for one in ends],
        "percentage points",
    )
    rows: list[list[Cell]] = [
        [
            Swatch(colours[name], name),
            Fixed(100 * values[name], 2),
            interval_words(against.class_intervals[name]),
            p_words(against.class_p[name]),
        ]
        for name in order
    ]
    absent = [name for name, value in against.per_class.items() if value is None]
    blocks: list[Block] = [Beside([chart, Table(["class", "difference", "95 % interval", "p"], rows)])]
    blocks.append(
        Text(
            "Above 0, the first is better. Intervals and p-values of classes are not adjusted for the number "
            "of classes: of 20 classes without a difference, one interval is expected to miss 0.",
            quiet=True,
        )
    )
    if absent:
        blocks += [Text("Not labelled in this split:"), Names(absent)]
    return blocks


# --- images -------------------------------------------------------------------------------------------------


def image_blocks(comparison: Comparison, examples: Sequence[Examples]) -> list[Block]:
    record = comparison.reference.runs[0].record
    blocks: list[Block] = [
        Text(
            "Ranked by the mIoU of each image alone, over the classes that are in it. Differences are means "
            "over seeds; predictions are those of the first seed.",
            quiet=True,
        ),
        Legend([Swatch(colour, name) for colour, name in zip(record.palette, record.classes, strict=True)]),
    ]
    for one in examples:
        first, second = numbered(one.row.entry, comparison), numbered(comparison.reference, comparison)
        pair = f"{first}, against {second}"
        inside: list[Block] = [Text(one.words)] if one.words else []
        for better in (True, False):
            chosen = [each for each in one.examples if (each.gain > 0) == better]
            if chosen:
                inside.append(Text(f"{'Better' if better else 'Worse'} than {second}:"))
            for each in chosen:
                numbers = [number_of(of, comparison) for of in (one.row.entry, comparison.reference)]
                inside += example_blocks(each, numbers, record.palette, record.ignore_index)
        if not one.examples:
            inside.append(Text("No image differs."))
        blocks.append(Section(pair, inside) if one is examples[0] else Details(pair, inside))
    if len(comparison.others) > len(examples):
        blocks.append(
            Text(
                f"Images of the {len(examples)} best of {len(comparison.others)} other entries are shown.",
                quiet=True,
            )
        )
    return blocks


def example_blocks(
    example: Example, numbers: Sequence[int], palette: Palette, ignore_index: int
) -> list[Block]:
    """numbers: of the entry and of the reference in the table."""
    image = example.image
    figures = []
    if image is not None:
        figures.append(Figure(shrunk(as_rgb(image), most=SIDE), "image", most=SIDE))
    masks = (
        ("label", example.label),
        (f"prediction of {numbers[0]}", example.predicted),
        (f"prediction of {numbers[1]}", example.of_reference),
    )
    for words, ids in masks:
        if ids is None:
            continue
        below = np.full((*ids.shape, 3), 128, np.uint8) if image is None else image
        if ids.shape != below.shape[:2]:  # a prediction is kept at most 512 pixels long
            ids = nearest(ids, height=below.shape[0], width=below.shape[1])
        shown = label_overlay(below, ids, palette, ignore_index=ignore_index, side=SIDE)
        figures.append(Figure(shown, words, most=SIDE))
    name = Text(f"{example.name}: {points(example.gain, sign=True)} points")
    return [name, Gallery(figures, columns=4)] if figures else [name]


# --- settings -----------------------------------------------------------------------------------------------


def setting_blocks(comparison: Comparison) -> list[Block]:
    names = list(dict.fromkeys(name for row in comparison.rows for name in row.entry.settings))
    rows: list[list[Cell]] = [
        [
            numbered(row.entry, comparison),
            *(Code(value_words(row.entry.settings.get(name))) for name in names),
        ]
        for row in comparison.rows
    ]
    runs: list[list[Cell]] = [
        [
            numbered(row.entry, comparison),
            Code(str(run.folder)),
            value_words(run.seed),
            value_words(run.fold),
            run.record.step,
            points(run.miou),
        ]
        for row in comparison.rows
        for run in row.entry.runs
    ]
    return [
        Text("Settings that differ between entries; all others are the same."),
        Table(["entry", *(name.removesuffix(".name") for name in names)], rows),
        Details("Folders of all runs", [Table(["entry", "folder", "seed", "fold", "step", "mIoU"], runs)]),
    ]
