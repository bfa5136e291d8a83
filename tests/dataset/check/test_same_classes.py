import pytest

from deeplabx.dataset.check.same_classes import refuse_different_classes
from deeplabx.dataset.readable import ReadableSet
from deeplabx.dataset.shapes import Shapes
from deeplabx.errors import DataError


def split(name: str, classes: list[str]) -> ReadableSet:
    found = ReadableSet(Shapes(split="val", train_images=1, val_images=1), split=name)
    found.classes = classes
    return found


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (["road", "car"], ["road", "bus"], "only train has car; only val has bus"),
        (["road", "car"], ["road"], "only train has car\n"),
        (["road", "car"], ["car", "road"], "the same names in another order"),
    ],
)
def test_different_classes_are_an_error(ours: list[str], theirs: list[str], words: str) -> None:
    with pytest.raises(DataError, match=f"splits train and val have different classes: {words}"):
        refuse_different_classes(split("train", ours), split("val", theirs))
    refuse_different_classes(split("train", ours), split("val", list(ours)))
