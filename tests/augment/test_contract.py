import numpy as np

from deeplabx.augment.contract import described
from deeplabx.augment.standard import StandardAugment


def test_an_augmentation_that_cannot_say_what_it_has_drawn_is_called() -> None:
    def dark(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return (image * rng.random()).astype(np.uint8), label

    image, label = np.full((9, 9, 3), 200, np.uint8), np.zeros((9, 9), np.uint8)
    found_image, found_label, words = described(dark, image, label, np.random.default_rng(0))
    assert np.array_equal(found_image, dark(image, label, np.random.default_rng(0))[0])
    assert found_label is label
    assert words == []


def test_one_that_can_is_asked() -> None:
    augment = StandardAugment(
        crop_size=8, scale_min=2, scale_max=2, flip=1, pad_pixel=(0, 0, 0), ignore_index=255
    )
    image, label = np.full((9, 9, 3), 200, np.uint8), np.zeros((9, 9), np.uint8)
    assert described(augment, image, label, np.random.default_rng(0))[2] == [
        "scale 2.00",
        "crop at row 5, column 2",
        "flipped",
    ]
