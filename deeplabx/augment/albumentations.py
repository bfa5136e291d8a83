"""Any transforms of albumentations, safe for labels; then the standard pipeline's padding and random crop."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deeplabx.augment.contract import Augmented, Described
from deeplabx.augment.draws import Draws
from deeplabx.augment.standard import StandardAugment
from deeplabx.augment.transforms import KEY, Builder, complaint, is_composition, parts_of
from deeplabx.errors import ConfigError, memory_error

TRIALS = ((256, 320), (1100, 1400))  # sizes of images: the first may be too small for a transform's crop
OF_EVERY = ("shape", "interpolation", "fill", "fill_mask", "rows", "cols")  # parameters that are not drawn
MOST_WORDS = 6  # parameters of a transform that are described


class AlbumentationsAugment:
    """Image (uint8) and label (uint8 or uint16) to crop_size x crop_size: the transforms in their order, then
    padding on the right and bottom and a random crop, where the result has another size.

    Each transform has a generator of its own, derived from the sample's by its place in the list. Those of
    albumentations would all be seeded alike: two flips of probability 0.5 would always come together.

    transforms: as in `deeplabx.augment.transforms`. Raises ConfigError for one that does not work on images
    of as many channels as `pad_pixel` has, or on labels with this ignore index.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        transforms: Sequence[Mapping[str, Any]],
        pad_pixel: tuple[int, ...],
        ignore_index: int,
        cat_max_ratio: float | None = None,
    ) -> None:
        self.ignore_index = ignore_index
        self.compose = Builder(pad_pixel, ignore_index).composed(transforms)
        self.parts = list(parts_of(self.compose))
        self.leaves = [one for one in self.parts if not is_composition(one)]
        self.crop = StandardAugment(
            crop_size=crop_size,
            scale_min=1,
            scale_max=1,
            flip=0,
            pad_pixel=pad_pixel,
            ignore_index=ignore_index,
            cat_max_ratio=cat_max_ratio,
        )
        for leaf in self.leaves:
            refuse_unusable(leaf, channels=len(pad_pixel), ignore_index=ignore_index)

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Augmented:
        return self.crop(*self.transformed(image, label, rng), rng)

    def around(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, wanted: int
    ) -> Augmented:
        """As calling it, but the last crop shows a random pixel of the class `wanted`, if the transforms have
        left one.
        """
        return self.crop.around(*self.transformed(image, label, rng), rng, wanted)

    def described(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Described:
        """What calling it returns, and in words what was drawn."""
        for leaf in self.leaves:
            leaf.params = {}
        transformed = self.transformed(image, label, rng)
        words = [words_of(leaf) for leaf in self.leaves if leaf.params]
        size = self.crop.crop_size
        *cut, of_crop = self.crop.described(*transformed, rng)
        if transformed[1].shape != (size, size):
            words += of_crop[1:]  # not that its scale is 1
        return cut[0], cut[1], words

    def transformed(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Augmented:
        seeds = Draws(rng).of("transforms").integers(0, 2**63, size=len(self.parts))
        for part, seed in zip(self.parts, seeds.tolist(), strict=True):
            part.random_generator, part.py_random = np.random.default_rng(seed), random.Random(seed)
        try:
            found = self.compose(image=image, mask=label)
        except Exception as error:  # of any kind: the library's and OpenCV's
            if memory_error(error) is not None:
                raise
            height, width = label.shape
            raise ConfigError(
                f"{KEY}: a transform failed on an image of {height} x {width}: {complaint(error)}"
            ) from None
        return found["image"].reshape(*found["mask"].shape, image.shape[2]), found["mask"]


def words_of(leaf: Any) -> str:
    """What a transform has drawn: its name, and those of its parameters that are single numbers or texts."""
    name = type(leaf).__name__
    drawn = list(numbers_in({key: value for key, value in leaf.params.items() if key not in OF_EVERY}))
    return name + (f": {', '.join(drawn[:MOST_WORDS])}" if drawn else "")


def numbers_in(params: Mapping[str, Any]) -> Iterator[str]:
    for key, value in params.items():
        if isinstance(value, bool | np.bool_ | str):
            yield f"{key} {str(value).lower()}"
        elif isinstance(value, int | float | np.number):
            yield f"{key} {float(value):.3g}"


def refuse_unusable(leaf: Any, *, channels: int, ignore_index: int) -> None:
    """Raise ConfigError for a transform that fails on images and labels of these types, or changes the types.
    It is tried once.
    """
    dtype = np.uint8 if ignore_index <= 255 else np.uint16
    found: Any = None
    problem = ""
    kinds = f"images of {channels} channel{'s' if channels > 1 else ''} and {np.dtype(dtype)} labels"
    for size in TRIALS:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (*size, channels), np.uint8)
        label = rng.integers(1, 3, size).astype(dtype)  # without 0, which a transform might fill in
        leaf.set_random_seed(0)
        try:
            found = leaf(force_apply=True, image=image, mask=label)
            break
        except Exception as error:  # noqa: BLE001 - of any kind: the library's and OpenCV's
            problem = complaint(error)
    if found is None:
        raise ConfigError(f"{KEY}: {type(leaf).__name__} does not work on {kinds}: {problem}")
    image, label = found["image"], found["mask"]
    if image.dtype != np.uint8 or label.dtype != dtype or image.size != label.size * channels:
        raise ConfigError(
            f"{KEY}: {type(leaf).__name__} gives an image of {image.dtype} {image.shape} and a label of "
            f"{label.dtype} {label.shape}: it does not work on {kinds}"
        )
    invented = set(np.unique(label).tolist()) - {1, 2, ignore_index}
    if invented:
        raise ConfigError(f"{KEY}: {type(leaf).__name__} invents labels: {sorted(invented)}")
