"""The table of classes."""

import math

import numpy as np

from deeplabx.report.page import Block, Cell, Fixed, Section, Swatch, Table, Text
from deeplabx.report.run_page.boundaries import boundary_iou
from deeplabx.report.run_page.facts import Facts
from deeplabx.report.statistics import LEVEL, Bootstrap

EXPLAINED = (
    "IoU = right pixels / pixels that are labelled or predicted as the class. Precision: of the predicted "
    "pixels those that are right; recall: of the labelled ones. Pixels and images: with the label. "
    "A dash: nothing is labelled, or predicted, as the class."
)


def class_table(facts: Facts, interval: Bootstrap | None) -> list[Section]:
    if facts.metrics is None:
        return []
    if facts.record is None:
        rows: list[list[Cell]] = [[name, iou] for name, iou in facts.metrics.per_class_iou.items()]
        words = "result.json has no more; deeplabx eval of this version writes the rest of this page."
        return [Section("Classes", [Table(["class", "IoU"], rows), Text(words, quiet=True)])]
    return [Section("Classes", of_record(facts, interval))]


def of_record(facts: Facts, interval: Bootstrap | None) -> list[Block]:
    record, found = facts.record, facts.metrics
    assert record is not None
    assert found is not None
    pixels = record.class_pixels
    hits, labelled, predicted = (value.sum(axis=0) for value in pixels)
    images = (pixels.labelled > 0).sum(axis=0)
    boundary = None if record.details is None else boundary_iou(record.details)
    columns = ["class", "IoU", f"{LEVEL:.0%} interval", "precision", "recall"]
    rows: list[list[Cell]] = []
    for at, (name, colour) in enumerate(zip(record.classes, record.palette, strict=True)):
        iou = found.per_class_iou[name]
        ends = None if interval is None else interval.per_class[name]
        rows.append(
            [
                Swatch(colour, name),
                None if iou is None else Fixed(iou),
                None if ends is None else f"{ends.low:.4f} to {ends.high:.4f}",
                Fixed(share(hits[at], predicted[at])),
                Fixed(share(hits[at], labelled[at])),
                *([] if boundary is None else [Fixed(float(boundary[at]))]),
                int(labelled[at]),
                int(images[at]),
            ]
        )
    return [
        Table([*columns, *([] if boundary is None else ["Boundary IoU"]), "pixels", "images"], rows),
        Text(EXPLAINED, quiet=True),
    ]


def share(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole > 0 else math.nan
