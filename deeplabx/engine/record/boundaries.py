"""How well the boundaries of classes are met: Boundary IoU, and pixels by their distance to a boundary."""

import math

import cv2
import numpy as np

RATIO = 0.02  # of the image's diagonal: the width of a boundary (Boundary IoU, 2103.16562, section 5)
WIDEST = 40  # pixels: the widest trimap (v3+, figure 5)


def boundary_distance(ids: np.ndarray, *, border: bool) -> np.ndarray:
    """Of each pixel of ids H x W (uint8 or uint16), the distance to the nearest pixel of another id, float32:
    1 beside one, diagonally too, as many as dilations with a 3 x 3 square reach.

    border: whether what is outside the image counts as another id. Without any other id: at least 1e4.
    """
    square = np.ones((3, 3), np.uint8)
    edges = cv2.erode(ids, square) != cv2.dilate(ids, square)
    if border:
        edges[[0, -1], :] = edges[:, [0, -1]] = True
    if not edges.any():
        return np.full(ids.shape, 1e4, np.float32)
    return cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_C, 3) + 1


def boundary_pixels(
    label: np.ndarray, predicted: np.ndarray, *, num_classes: int, ignore_index: int
) -> np.ndarray:
    """int64 C x 2: pixels in the intersection and in the union of each class's boundaries in label and
    prediction, H x W each. Their sums over images give Boundary IoU. Ignored pixels are not counted.
    """
    width = max(1, round(RATIO * math.hypot(*label.shape)))
    valid = label != ignore_index
    in_label = valid & (boundary_distance(label, border=True) <= width)
    in_predicted = valid & (boundary_distance(predicted, border=True) <= width)
    both = in_label & in_predicted & (label == predicted)
    common, labelled, found = (
        np.bincount(ids[where], minlength=num_classes)[:num_classes]
        for ids, where in ((label, both), (label, in_label), (predicted, in_predicted))
    )
    return np.stack([common, labelled + found - common], axis=1).astype(np.int64)


def pixels_by_distance(
    label: np.ndarray, predicted: np.ndarray, *, num_classes: int, ignore_index: int
) -> np.ndarray:
    """int64 WIDEST x C x 3: pixels that are right, labelled and predicted as each class, by their distance
    1 to WIDEST to the nearest boundary of the label. The first w of them are the trimap of width w.

    The paper dilates the ignored pixels, which lie along the boundaries of VOC's objects; here they are one
    more region of the label, so that data sets without them have trimaps too.
    """
    distance = boundary_distance(label, border=False)
    near = (distance <= WIDEST) & (label != ignore_index)
    band = distance[near].astype(np.int64) - 1
    labels, found = label[near].astype(np.int64), predicted[near].astype(np.int64)
    right = labels == found
    total = WIDEST * num_classes
    counts = (
        np.bincount(band[right] * num_classes + labels[right], minlength=total),
        np.bincount(band * num_classes + labels, minlength=total),
        np.bincount(band * num_classes + found, minlength=total),
    )
    return np.stack([one.reshape(WIDEST, num_classes) for one in counts], axis=2).astype(np.int64)
