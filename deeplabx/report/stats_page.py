"""The statistics of a data set, as text for a terminal and as a page."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from deeplabx.dataset.contract import Palette, Statistics
from deeplabx.dataset.statistics import (
    CROP_RULE,
    SplitStatistics,
    binned,
    heights,
    most_frequent,
    short_sides,
    spread,
    suggested_crop,
    widths,
)
from deeplabx.errors import printable
from deeplabx.process.terminal import columns, padded
from deeplabx.report.page import (
    Bars,
    Beside,
    Block,
    Card,
    Cell,
    Command,
    Details,
    Histogram,
    Names,
    Section,
    Share,
    Swatch,
    Table,
    Text,
    Tiles,
    write_page,
)
from deeplabx.report.page.writing import percent

MOST_BARS = 40  # classes in a chart; the table has all
MOST_LINE = 40  # classes whose weights a line of the terminal lists
VOID = (255, 255, 255)
METHODS = {
    "median_frequency": "median of the classes' frequencies / frequency of the class (1411.4734)",
    "enet": "1 / ln(1.02 + share of the class) (1606.02147)",
    "effective_number": "inverse of the effective number of samples (1901.05555); near 1 for frequent ones",
}
WEIGHT_WORDS = (
    "scaled so that their mean over the counted pixels is 1. loss.class_balance=NAME computes the same when "
    "a run starts"
)


# --- terminal -----------------------------------------------------------------------------------------------


def terminal_text(
    name: str, classes: Sequence[str], found: Sequence[SplitStatistics], *, training: SplitStatistics
) -> str:
    """Tables of classes and sizes, and suggestions. training: the split that these follow from."""
    parts = [name, "", *class_lines(classes, found), "", *size_lines(found)]
    crop = suggested_crop(training.sizes)
    weights = training.class_weights()
    if crop is not None or weights:
        parts += ["", f"for training on {training.split}"]
    if crop is not None:
        parts.append(f"  augment.crop_size={crop}")
    if len(classes) > MOST_LINE:
        parts += [f"  loss.class_balance={method}  # its weights are in stats.json" for method in weights]
    else:
        parts += [f"  {weights_line(values)}  # {method}" for method, values in weights.items()]
    return "\n".join(parts)


def class_lines(classes: Sequence[str], found: Sequence[SplitStatistics]) -> list[str]:
    """Share of the valid pixels, and images that hold the class, for each split."""
    rows = [
        [printable(name)]
        + [words for one in found for words in (percent(float(one.shares[at])), f"{int(one.holding[at]):,}")]
        for at, name in enumerate(classes)
    ]
    void = ["void, of all pixels"]
    void += [words for one in found for words in (percent(one.void), f"{int(one.holding[-1]):,}")]
    return aligned(
        [["class"] + [f"{one.split} {of}" for one in found for of in ("pixels", "images")], *rows, void]
    )


def size_lines(found: Sequence[SplitStatistics]) -> list[str]:
    rows = [["split", "images", "unreadable", "width", "height", "sizes", "most frequent", "mean", "std"]]
    for one in found:
        ranges = [range_words(side(one.sizes)) if one.sizes else "-" for side in (widths, heights)]
        often = most_frequent(one.sizes, 1)
        size = f"{often[0][0][0]} x {often[0][0][1]}" if often else "-"
        channels = [channel_words(values) for values in one.channels] if one.channels else ["-", "-"]
        rows.append(
            [
                one.split,
                f"{one.images:,}",
                f"{one.unreadable:,}",
                *ranges,
                f"{len(one.sizes):,}",
                size,
                *channels,
            ]
        )
    lines = aligned(rows)
    different = any(" - " in cell for row in rows for cell in row)
    return [*lines, "width and height: smallest - median - largest"] if different else lines


def range_words(values: Counter[int]) -> str:
    low, middle, high = vars(spread(values)).values()
    return str(low) if low == high else f"{low} - {middle} - {high}"


def channel_words(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    wide = [max(columns(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            [padded(row[0], wide[0])]
            + [" " * (width - columns(cell)) + cell for cell, width in zip(row[1:], wide[1:], strict=True)]
        )
        for row in rows
    ]


def weights_line(values: Sequence[float]) -> str:
    return f"'loss.class_weights=[{','.join(f'{value:g}' for value in values)}]'"


# --- page ---------------------------------------------------------------------------------------------------


def write_stats_page(
    path: Path,
    name: str,
    classes: Sequence[str],
    palette: Palette,
    found: Sequence[SplitStatistics],
    *,
    training: SplitStatistics,
) -> None:
    """The page of `data stats`. training: the split that suggestions follow from."""
    sections = [
        Section("Summary", [tiles(classes, found)]),
        Section("Classes", class_blocks(classes, palette, found, training)),
        Section("Image sizes", size_blocks(found)),
        Section("Channels", channel_blocks(found, training)),
        Section("For training", training_blocks(classes, palette, training)),
    ]
    problems = [one for one in found if one.problems]
    if problems:
        sections.insert(1, Section("Cannot be used", [problem_card(one) for one in problems]))
    splits = ", ".join(f"{one.images:,} images of {one.split}" for one in found)
    write_page(path, f"Statistics of {name}", sections, words=splits)


def tiles(classes: Sequence[str], found: Sequence[SplitStatistics]) -> Tiles:
    unreadable = sum(one.unreadable for one in found)
    absent = sum(not sum(int(one.holding[at]) for one in found) for at in range(len(classes)))
    pixels, void = (
        sum(int(of(one)) for one in found)
        for of in (lambda one: one.pixels.sum(), lambda one: one.pixels[-1])
    )
    shown: list[tuple[str, Cell]] = [(f"images of {one.split}", one.images) for one in found]
    shown += [("classes", len(classes)), ("void", Share(void / max(1, pixels)))]
    shown += [("classes without pixels", absent)] if absent else []
    shown += [("images that cannot be used", unreadable)] if unreadable else []
    return Tiles(shown, {"classes without pixels": "warning", "images that cannot be used": "error"})


def problem_card(one: SplitStatistics) -> Card:
    return Card(
        "error",
        f"{one.unreadable:,} of {one.images:,} images of {one.split} were not counted",
        [Names([problem.message for problem in one.problems])],
    )


def class_blocks(
    classes: Sequence[str], palette: Palette, found: Sequence[SplitStatistics], training: SplitStatistics
) -> list[Block]:
    order = sorted(range(len(classes)), key=lambda at: -int(training.pixels[at]))
    of = ""
    if len(classes) > MOST_BARS:  # among many classes, bars only of those that occur; the table has all
        order = [at for at in order[:MOST_BARS] if training.pixels[at]] or order[:1]
        of = f" ({len(order)} most frequent of {len(classes)} classes)"
    names, colours = [classes[at] for at in order], [palette[at] for at in order]
    shares = [float(training.shares[at]) for at in order]
    images = [int(training.holding[at]) for at in order]
    columns_of_table = ["class"]
    for one in found:
        columns_of_table += [f"{one.split}: share", "pixels", "images"]
    rows: list[list[Cell]] = []
    for at in range(len(classes) + 1):
        is_void = at == len(classes)
        cells: list[Cell] = [Swatch(VOID, "void", True) if is_void else Swatch(palette[at], classes[at])]
        for one in found:
            share = one.void if is_void else float(one.shares[at])
            cells += [Share(share), int(one.pixels[at]), int(one.holding[at])]
        rows.append(cells)
    return [
        Beside(
            [
                Bars(
                    f"Pixels of {training.split}{of}",
                    names,
                    [100 * share for share in shares],
                    colours,
                    [percent(share) for share in shares],
                    "% of the valid pixels",
                ),
                Bars(
                    f"Images of {training.split} with the class{of}",
                    names,
                    images,
                    colours,
                    axis="images",
                ),
            ]
        ),
        Table(columns_of_table, rows),
        Text("Class shares are of the valid pixels, the void share is of all pixels.", quiet=True),
    ]


def size_blocks(found: Sequence[SplitStatistics]) -> list[Block]:
    rows: list[list[Cell]] = []
    charts: list[Block] = []
    often: list[list[Cell]] = []
    for one in found:
        if not one.sizes:
            continue
        for side, values in (("width", widths(one.sizes)), ("height", heights(one.sizes))):
            found_spread = spread(values)
            rows.append([f"{one.split}: {side}", found_spread.least, found_spread.median, found_spread.most])
        edges, counts = binned(short_sides(one.sizes))
        if len(one.sizes) > 1:
            charts.append(Histogram(f"Short sides of {one.split}", edges, counts, axis="pixels"))
        often += [
            [f"{width} x {height}", one.split, count, Share(count / one.sizes.total())]
            for (width, height), count in most_frequent(one.sizes, 10)
        ]
    if not rows:
        return [Text("No image could be read.")]
    return [
        Table(["side in pixels", "smallest", "median", "largest"], rows),
        *([Beside(charts)] if charts else []),
        Details(
            "The most frequent sizes", [Table(["width x height", "split", "images", "of images"], often)]
        ),
    ]


def channel_blocks(found: Sequence[SplitStatistics], training: SplitStatistics) -> list[Block]:
    rows: list[list[Cell]] = [
        [f"{one.split}: {channel_name(at, len(one.channels.mean))}", mean, std]
        for one in found
        if one.channels is not None
        for at, (mean, std) in enumerate(zip(*one.channels, strict=True))
    ]
    if not rows:
        return [Text("No image could be read.")]
    blocks: list[Block] = [
        Table(["channel", "mean", "std"], rows),
        Text("Over all pixels, on a scale from 0 to 255.", quiet=True),
    ]
    if training.channels is not None:
        blocks.append(Command(statistics_line(training.channels), "In the code of a data set of your own:"))
    return blocks


def channel_name(at: int, count: int) -> str:
    return ("red", "green", "blue")[at] if count == 3 else f"channel {at}"


def statistics_line(channels: Statistics) -> str:
    mean, std = (", ".join(f"{value:.3f}" for value in values) for values in channels)
    return f"statistics = Statistics(mean=({mean}), std=({std}))"


def training_blocks(classes: Sequence[str], palette: Palette, training: SplitStatistics) -> list[Block]:
    blocks: list[Block] = [Text(f"These follow from the images of {training.split}.", quiet=True)]
    crop = suggested_crop(training.sizes)
    if crop is not None:
        words = f"Crop: {CROP_RULE}. Larger crops see more context and need more memory."
        blocks += [Command(f"augment.crop_size={crop}", words)]
    weights = training.class_weights()
    if not weights:
        return [*blocks, Text("There is no valid pixel, so there are no class weights.")]
    rows: list[list[Cell]] = [
        [Swatch(palette[at], name), *(values[at] for values in weights.values())]
        for at, name in enumerate(classes)
    ]
    absent = [name for name, pixels in zip(classes, training.pixels[:-1], strict=True) if not pixels]
    blocks += [Text(f"Class weights by the three methods of loss.class_balance, {WEIGHT_WORDS}.")]
    blocks += [Table(["class", *weights], rows)]
    blocks += [Command(weights_line(values), f"{name}: {METHODS[name]}") for name, values in weights.items()]
    if absent:
        blocks += [Text("Classes without pixels have weight 1:"), Names(absent)]
    return blocks
