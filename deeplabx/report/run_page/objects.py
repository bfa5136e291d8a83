"""IoU of objects by their size."""

import numpy as np

from deeplabx.engine.record.objects import BINS
from deeplabx.report.page import Bars, Block, Cell, Details, Fixed, Section, Swatch, Table, Text
from deeplabx.report.run_page.facts import Facts

EXPLAINED = (
    "An object is a connected part of a label of one class. Its IoU is the component-wise one of "
    "2104.14812: right pixels / (its pixels + pixels outside every object of its class, of those connected "
    "parts of the prediction that touch it). Small objects weigh little in the mIoU, which counts pixels; "
    "here each object counts once."
)


def size_words(number: int) -> str:
    """The areas of a bin."""
    first, last = 4**number, 4 ** (number + 1) - 1
    return f"from {first:,}" if number == BINS - 1 else f"{first:,} to {last:,}"


def object_section(facts: Facts) -> list[Section]:
    record = facts.record
    if record is None or record.details is None:
        return []
    count, total = record.details.objects.sum(axis=0).T
    used = [number for number in range(BINS) if count[number] > 0]
    if not used:
        return []
    means = [float(total[number] / count[number]) for number in used]
    rows: list[list[Cell]] = [
        [size_words(number), int(count[number]), Fixed(mean)]
        for number, mean in zip(used, means, strict=True)
    ]
    blocks: list[Block] = [
        Bars(
            "Mean IoU of objects by their area",
            [f"{size_words(number)} px" for number in used],
            means,
            texts=[f"{mean:.3f}  ({int(count[number]):,})" for number, mean in zip(used, means, strict=True)],
            axis="mean IoU (number of objects)",
        ),
        Table(["area in pixels", "objects", "mean IoU"], rows),
        Details("By class", [by_class(facts, used)]),
        Text(EXPLAINED, quiet=True),
    ]
    return [Section("Object sizes", blocks)]


def by_class(facts: Facts, used: list[int]) -> Table:
    """Number and mean IoU of the objects of each class, by size."""
    assert facts.record is not None
    assert facts.record.details is not None
    objects = facts.record.details.objects
    rows: list[list[Cell]] = []
    for at, (name, colour) in enumerate(zip(facts.record.classes, facts.record.palette, strict=True)):
        if not objects[at, :, 0].any():
            continue
        cells: list[Cell] = [Swatch(colour, name), int(objects[at, :, 0].sum())]
        for number in used:
            count, total = objects[at, number]
            cells.append(Fixed(float(total / count) if count else np.nan, 3))
        rows.append(cells)
    return Table(["class", "objects", *(f"{size_words(number)} px" for number in used)], rows)
