"""The worst, the median and the best images, by the mIoU of each alone."""

import numpy as np

from deeplabx.errors import DeeplabxError
from deeplabx.report.page import (
    Block,
    Cell,
    Details,
    Gallery,
    Histogram,
    Legend,
    Section,
    Swatch,
    Table,
    Text,
)
from deeplabx.report.run_page.examples import Examples, error_figure, figures
from deeplabx.report.run_page.facts import Facts

WORST, MEDIAN, BEST = 4, 2, 2
MOST_ROWS = 50  # images in the table
MOST_NAMES = 40  # classes in the legend
EXPLAINED = (
    "The mIoU of an image alone is the mean over the classes that are labelled or predicted in it. The mIoU "
    "of the split is not its mean: that is computed from the pixels of all images together."
)


def image_section(facts: Facts, examples: Examples) -> list[Section]:
    if facts.record is None:
        return []
    record, miou = facts.record, facts.record.counts.miou_of_images()
    valid = np.flatnonzero(np.isfinite(miou))
    order = valid[np.argsort(miou[valid], kind="stable")]
    edges = np.linspace(0, 1, 21)
    counts = np.histogram(miou[valid], edges)[0]
    rows: list[list[Cell]] = [[record.names[at], float(miou[at])] for at in order[:MOST_ROWS]]
    blocks: list[Block] = [
        Text(EXPLAINED, quiet=True),
        Histogram("mIoU of each image", edges.tolist(), counts.tolist(), axis="mIoU"),
        Details(f"The {len(rows)} worst images as a table", [Table(["image", "mIoU"], rows)]),
    ]
    without = len(miou) - len(valid)
    if without:
        blocks.append(Text(f"{without:,} images have no labelled pixel, and are not among these."))
    if facts.samples is None:
        return [Section("Images", [*blocks, Text(f"No images: {facts.no_images}")])]
    kept = order[examples.has_prediction[order]]
    if len(kept) < len(order):
        words = f"Predictions of {len(order) - len(kept):,} images were not kept: they are not shown below."
        blocks.append(Text(words))
    blocks += legend(facts)
    blocks += [
        block
        for title, positions in chosen(kept)
        for block in [Section(title, [row(facts, examples, at, float(miou[at])) for at in positions])]
    ]
    return [Section("Images", blocks)]


def chosen(order: np.ndarray) -> list[tuple[str, list[int]]]:
    """Positions of images in the record, each once, by what they are. order: by mIoU."""
    found = order.tolist()
    half = max(0, len(found) // 2 - MEDIAN // 2)
    groups = {"Worst": found[:WORST], "Best": found[-BEST:][::-1], "Median": found[half : half + MEDIAN]}
    taken: set[int] = set()
    for title, positions in groups.items():
        groups[title] = [at for at in positions if at not in taken]
        taken |= set(positions)
    return [(title, groups[title]) for title in ("Worst", "Median", "Best") if groups[title]]


def legend(facts: Facts) -> list[Block]:
    assert facts.record is not None
    pairs = list(zip(facts.record.classes, facts.record.palette, strict=True))
    if len(pairs) > MOST_NAMES:  # those that occur
        seen = facts.record.class_pixels
        order = np.argsort(-(seen.labelled + seen.predicted).sum(axis=0), kind="stable")[:MOST_NAMES]
        pairs = [pairs[at] for at in order]
    void = Swatch((255, 255, 255), "void", hatched=True)
    return [Legend([*(Swatch(colour, name) for name, colour in pairs), void])]


def row(facts: Facts, examples: Examples, at: int, miou: float) -> Block:
    assert facts.record is not None
    record = facts.record
    try:
        example = examples.at(at)
    except DeeplabxError as error:
        return Text(f"{record.names[at]}, mIoU {miou:.4f}: {error.message}")
    shown = figures(
        example,
        record.palette,
        ignore_index=record.ignore_index,
        captions=("image", "label", "prediction"),
    )
    shown.append(error_figure(example, ignore_index=record.ignore_index))
    return Gallery(shown, f"{example.name}, mIoU {miou:.4f}", columns=4)
