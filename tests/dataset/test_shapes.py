import numpy as np
import pytest

from deeplabx.dataset.contract import SegmentationSet
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset


def shapes(split: str) -> SegmentationSet:
    return open_dataset("shapes", split=split, train_images=200, val_images=50)


def test_a_image_is_a_function_of_split_and_index() -> None:
    first, again = shapes("train")[7], shapes("train")[7]
    assert (first.image == again.image).all()
    assert (first.label == again.label).all()
    assert (shapes("train")[8].image != first.image).any()
    assert (shapes("val")[7].image != first.image).any()


def test_labels_hold_every_class_void_and_nothing_else() -> None:
    samples = shapes("train")
    found = {int(value) for index in range(100) for value in np.unique(samples[index].label)}
    assert found == {*range(len(samples.classes)), samples.ignore_index}


def test_objects_have_a_void_border() -> None:
    samples = shapes("train")
    for index in range(30):
        label = samples[index].label
        touching = (label[:, :-1] == 0) & (label[:, 1:] > 0) & (label[:, 1:] != samples.ignore_index)
        assert not touching.any()


def test_colour_alone_cannot_tell_the_classes() -> None:
    """The best a per-pixel colour model can do, its table of 16^3 colours filled from 200 images."""
    training, validation = shapes("train"), shapes("val")
    counts = np.zeros((16**3, 7))
    for index in range(200):
        colour, label = cells(training, index)
        np.add.at(counts, (colour, label), 1)
    guess, confusion = counts.argmax(axis=1), np.zeros((7, 7))
    for index in range(50):
        colour, label = cells(validation, index)
        np.add.at(confusion, (label, guess[colour]), 1)
    hits = confusion.diagonal()
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert iou[0] > 0.8
    assert iou.mean() < 0.5


def cells(samples: SegmentationSet, index: int) -> tuple[np.ndarray, np.ndarray]:
    image, label = samples[index]
    valid = label != samples.ignore_index
    coarse = image[valid].astype(int) // 16
    return coarse @ [256, 16, 1], label[valid].astype(int)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(DataError, match="split=test is not a split of shapes"):
        open_dataset("shapes", split="test", train_images=1, val_images=1)
    with pytest.raises(DataError, match="is generated and reads no files"):
        open_dataset("shapes", split="val", train_images=1, val_images=1, root="/data")
