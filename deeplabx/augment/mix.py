"""What is pasted from one image of a batch into another: CutMix and ClassMix."""

from collections.abc import Callable

import numpy as np

Region = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


class Mix:
    """Images N x H x W x channels and labels N x H x W of one process's part of a batch, N >= 2, mixed.

    With probability `p`, an image gets a region of another one, with its label. The other is that of the
    batch a random number of places further on, and as it was before anything was pasted. So no label
    appears that is not in the batch, and ignored pixels stay ignored wherever they are pasted.
    """

    def __init__(self, region: Region, *, p: float, ignore_index: int) -> None:
        self.region, self.p, self.ignore_index = region, p, ignore_index

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        count = len(images)
        further = int(rng.integers(1, count))
        mixed_images, mixed_labels = images.copy(), labels.copy()
        for index in range(count):
            other = (index + further) % count
            if rng.random() < self.p:
                region = self.region(labels[other], self.ignore_index, rng)
                mixed_images[index][region] = images[other][region]
                mixed_labels[index][region] = labels[other][region]
        return mixed_images, mixed_labels


def rectangle(label: np.ndarray, ignore_index: int, rng: np.random.Generator) -> np.ndarray:
    """CutMix (1905.04899): a rectangle of the image's proportions whose area is a uniform share of it, around
    a uniform pixel; what is beyond the image's edge is cut off.
    """
    height, width = label.shape
    side = np.sqrt(rng.random())
    region = np.zeros(label.shape, bool)
    spans = []
    for size in (height, width):
        middle, half = rng.uniform(0, size), side * size / 2
        spans.append(slice(max(0, round(middle - half)), min(size, round(middle + half))))
    region[tuple(spans)] = True
    return region


def half_of_classes(label: np.ndarray, ignore_index: int, rng: np.random.Generator) -> np.ndarray:
    """ClassMix (2007.07936): all pixels of half of the classes that a label shows, rounded up."""
    classes = np.flatnonzero(np.bincount(label.reshape(-1), minlength=ignore_index + 1))
    classes = classes[classes != ignore_index]
    return np.isin(label, rng.permutation(classes)[: (len(classes) + 1) // 2])


REGIONS: dict[str, Region] = {"cutmix": rectangle, "classmix": half_of_classes}
