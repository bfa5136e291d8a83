import numpy as np
import pytest

from deeplabx.engine.record.counts import Cells, ImageCounts

CLASSES = 4


def matrices(seed: int = 0, images: int = 6) -> np.ndarray:
    """N confusion matrices C x C with many zeros; one of them is empty."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 50, (images, CLASSES, CLASSES)) * (rng.random((images, CLASSES, CLASSES)) < 0.5)
    found[2] = 0
    found[:, 3] = found[:, :, 3] = 0  # a class that is nowhere
    return found


def counts_of(dense: np.ndarray) -> ImageCounts:
    cells = [Cells(np.flatnonzero(one), one.ravel()[np.flatnonzero(one)]) for one in dense]
    return ImageCounts.of(cells, num_classes=CLASSES)


def test_sums_are_those_of_the_whole_matrices() -> None:
    dense = matrices()
    counts = counts_of(dense)
    assert np.array_equal(counts.confusion(), dense.sum(axis=0))
    hits, labelled, predicted = counts.class_pixels()
    for image, matrix in enumerate(dense):
        for one in range(CLASSES):
            assert hits[image, one] == matrix[one, one]
            assert labelled[image, one] == sum(matrix[one])
            assert predicted[image, one] == sum(matrix[:, one])
            assert [counts.pixels_of(one, other)[image] for other in range(CLASSES)] == matrix[one].tolist()


def test_the_miou_of_an_image_is_that_of_its_matrix_alone() -> None:
    dense = matrices()
    found = counts_of(dense).miou_of_images()
    for image, matrix in enumerate(dense):
        ious = [
            matrix[one, one] / (sum(matrix[one]) + sum(matrix[:, one]) - matrix[one, one])
            for one in range(CLASSES)
            if sum(matrix[one]) + sum(matrix[:, one])
        ]
        assert (
            found[image] == pytest.approx(sum(ious) / len(ious), rel=1e-12)
            if ious
            else np.isnan(found[image])
        )


def test_no_images_have_an_empty_matrix() -> None:
    counts = ImageCounts.of([], num_classes=2)
    assert counts.confusion().tolist() == [[0, 0], [0, 0]]
    assert len(counts.miou_of_images()) == 0
