"""What the confusion matrices do not say of a split: boundaries, objects, calibration."""

from dataclasses import dataclass

import numpy as np

from deeplabx.engine.record.boundaries import boundary_pixels, pixels_by_distance
from deeplabx.engine.record.calibration import pixels_by_confidence
from deeplabx.engine.record.objects import objects_by_size


@dataclass(frozen=True)
class Details:
    """Summed over images. C: number of classes."""

    boundary: np.ndarray  # int64 C x 2: see `boundary_pixels`
    distance: np.ndarray  # int64 WIDEST x C x 3: see `pixels_by_distance`
    objects: np.ndarray  # float64 C x BINS x 2: see `objects_by_size`
    calibration: np.ndarray | None  # float64 BINS x 3: see `pixels_by_confidence`; None: the model gives ids

    def plus(self, other: "Details") -> "Details":
        calibration = None
        if self.calibration is not None and other.calibration is not None:
            calibration = self.calibration + other.calibration
        return Details(
            self.boundary + other.boundary,
            self.distance + other.distance,
            self.objects + other.objects,
            calibration,
        )


def details_of(
    label: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray | None,
    *,
    num_classes: int,
    ignore_index: int,
) -> Details:
    """Of one image: label and predicted ids H x W, uint8 or uint16, and the probability of the predicted
    class.
    """
    both = {"num_classes": num_classes, "ignore_index": ignore_index}
    return Details(
        boundary_pixels(label, predicted, **both),
        pixels_by_distance(label, predicted, **both),
        objects_by_size(label, predicted, **both),
        None
        if confidence is None
        else pixels_by_confidence(label, predicted, confidence, ignore_index=ignore_index),
    )
