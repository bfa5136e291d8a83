"""How well boundaries are met: Boundary IoU, and the mIoU near them by distance."""

import numpy as np

from deeplabx.engine.record.boundaries import RATIO, WIDEST
from deeplabx.engine.record.details import Details as Measured
from deeplabx.report.page import Bars, Beside, Block, Cell, Details, Fixed, Lines, Section, Table, Text
from deeplabx.report.run_page.facts import Facts

MOST_BARS = 40  # classes
TABLE = (1, 2, 3, 5, 7, 10, 15, 20, 30, WIDEST)  # widths in the table
EXPLAINED = (
    f"Boundary IoU (2103.16562) is the IoU of the pixels that lie within {RATIO:.0%} of the image's diagonal "
    "of a class's boundary, in the label and in the prediction. The curve is that of figure 5 of the v3+ "
    "paper (1802.02611): the mIoU of the pixels within each distance of a boundary of the label, its trimap. "
    "It rises to the right where errors lie along boundaries."
)


def boundary_iou(details: Measured) -> np.ndarray:
    """Of each class, float64 C; nan where neither label nor prediction has a boundary of it."""
    common, union = details.boundary.astype(np.float64).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, common / union, np.nan)


def trimap_miou(details: Measured) -> np.ndarray:
    """mIoU of the trimaps of width 1 to WIDEST, float64; nan where a trimap has no pixel."""
    right, labelled, found = np.cumsum(details.distance.astype(np.float64), axis=0).transpose(2, 0, 1)
    union = labelled + found - right
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(union > 0, right / union, 0.0)
        return np.where((union > 0).any(axis=1), iou.sum(axis=1) / (union > 0).sum(axis=1), np.nan)


def boundary_section(facts: Facts) -> list[Section]:
    record = facts.record
    if record is None or record.details is None or facts.metrics is None:
        return []
    iou, curve = boundary_iou(record.details), trimap_miou(record.details)
    widths = list(range(1, WIDEST + 1))
    seen = np.flatnonzero(np.isfinite(iou))
    order = sorted(seen, key=lambda at: float(iou[at]))[:MOST_BARS]
    whole = facts.metrics.miou
    charts: list[Block] = [
        Lines(
            "mIoU near boundaries",
            {"trimap": (widths, curve.tolist()), "whole image": ([1, WIDEST], [whole, whole])},
            "width of the trimap in pixels",
            "mIoU",
            behind=["whole image"],
        )
    ]
    if order:
        of = f" ({len(order)} lowest)" if len(seen) > len(order) else ""
        charts.append(
            Bars(
                f"Boundary IoU{of}",
                [record.classes[at] for at in order],
                [float(iou[at]) for at in order],
                [record.palette[at] for at in order],
                [f"{iou[at]:.3f}" for at in order],
            )
        )
    rows: list[list[Cell]] = [
        [width, Fixed(float(value))] for width, value in zip(widths, curve, strict=True) if width in TABLE
    ]
    mean = float(iou[seen].mean()) if len(seen) else float("nan")
    words = f"Mean Boundary IoU over {len(seen)} classes: {mean:.4f}, beside a mIoU of {whole:.4f}."
    return [
        Section(
            "Boundaries",
            [
                Text(words),
                Beside(charts),
                Details("The curve as a table", [Table(["width in pixels", "mIoU"], rows)]),
                Text(EXPLAINED, quiet=True),
            ],
        )
    ]
