"""Whether the model is right as often as its probabilities say."""

import numpy as np

from deeplabx.engine.record.calibration import BINS
from deeplabx.report.page import Beside, Cell, Details, Fixed, Histogram, Lines, Section, Share, Table, Text
from deeplabx.report.run_page.facts import Facts

EXPLAINED = (
    "The confidence of a pixel is the probability of its predicted class. The expected calibration error "
    f"(1706.04599) is the mean distance of accuracy and confidence over {BINS} bins of confidence, weighted "
    "by their pixels. Below the diagonal, the model is overconfident."
)


def calibration_error(calibration: np.ndarray) -> float:
    """ECE, 0..1; nan without pixels."""
    pixels, right, confidence = calibration.T
    total = pixels.sum()
    return float(np.abs(right - confidence).sum() / total) if total else float("nan")


def calibration_section(facts: Facts) -> list[Section]:
    record = facts.record
    if record is None or record.details is None:
        return []
    calibration = record.details.calibration
    if calibration is None:
        words = "The evaluated file gives class ids, not probabilities, so there is no calibration."
        return [Section("Calibration", [Text(words)])]
    pixels, right, confidence = calibration.T
    used = np.flatnonzero(pixels)
    sure, accuracy = confidence[used] / pixels[used], right[used] / pixels[used]
    edges = np.linspace(0, 1, BINS + 1)
    rows: list[list[Cell]] = [
        [
            f"{edges[at]:.2f} to {edges[at + 1]:.2f}",
            Share(float(pixels[at] / pixels.sum())),
            Fixed(float(one)),
            Fixed(float(two)),
        ]
        for at, one, two in zip(used, sure, accuracy, strict=True)
    ]
    return [
        Section(
            "Calibration",
            [
                Text(f"Expected calibration error: {calibration_error(calibration):.4f}."),
                Beside(
                    [
                        Lines(
                            "Reliability",
                            {
                                "model": (sure.tolist(), accuracy.tolist()),
                                "perfect calibration": ([0.0, 1.0], [0.0, 1.0]),
                            },
                            "confidence",
                            "accuracy",
                            behind=["perfect calibration"],
                            dots=True,
                        ),
                        Histogram(
                            "Pixels by confidence",
                            edges.tolist(),
                            [int(value) for value in pixels],
                            axis="confidence",
                            counted="pixels",
                        ),
                    ]
                ),
                Details("As a table", [Table(["confidence", "pixels", "mean confidence", "accuracy"], rows)]),
                Text(EXPLAINED, quiet=True),
            ],
        )
    ]
