"""How well objects of each size are found. An object is a connected part of a label of one class."""

import cv2
import numpy as np

BINS = 16  # of an object's area: 1 to 3 pixels, 4 to 15, ..., each four times the one before


def objects_by_size(
    label: np.ndarray, predicted: np.ndarray, *, num_classes: int, ignore_index: int
) -> np.ndarray:
    """float64 C x BINS x 2: number of objects of each class and size in a label H x W, and their summed IoU.

    The IoU of an object is its component-wise one (2104.14812, section 4.2): right pixels / (its pixels +
    pixels outside every object of the class, of those connected parts of the prediction that touch it).
    Pixels are connected to their eight neighbours; ignored ones are not counted.
    """
    found = np.zeros((num_classes, BINS, 2))
    valid = label != ignore_index
    for class_id in np.unique(label[valid]).tolist():
        own, claimed = label == class_id, valid & (predicted == class_id)
        place = bounds(own | claimed)
        own, claimed = own[place], claimed[place]
        objects = cv2.connectedComponents(own.astype(np.uint8), connectivity=8)[1]
        parts = cv2.connectedComponents(claimed.astype(np.uint8), connectivity=8)[1]
        area = np.bincount(objects[own])[1:]
        hits = np.bincount(objects[own & claimed], minlength=len(area) + 1)[1:]
        outside = np.bincount(parts[claimed & ~own], minlength=int(parts.max()) + 1)
        touching = own & claimed
        pairs = np.unique(objects[touching].astype(np.int64) * len(outside) + parts[touching])
        which, part = np.divmod(pairs, len(outside))
        beside = np.bincount(which, weights=outside[part], minlength=len(area) + 1)[1:]
        bins = np.minimum(np.log2(area).astype(np.int64) // 2, BINS - 1)
        found[class_id, :, 0] += np.bincount(bins, minlength=BINS)
        found[class_id, :, 1] += np.bincount(bins, weights=hits / (area + beside), minlength=BINS)
    return found


def bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest rectangle that holds all pixels of a mask, which has some."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
