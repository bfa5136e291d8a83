"""The standard DeepLab pipeline: random scale, pad with the mean pixel and ignore, random crop, flip (v3,
section 4.1); and beyond the paper, each off by default: rotation, colour, blur, noise, cutout.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from deeplabx.augment.blur import Blur
from deeplabx.augment.colour import ColourJitter, Grey
from deeplabx.augment.contract import Augmented, Described
from deeplabx.augment.cutout import Cutout, Hole
from deeplabx.augment.draws import Draws
from deeplabx.augment.noise import Noise
from deeplabx.augment.placement import MOST_REDRAWS, largest_share, random_pixel
from deeplabx.errors import ConfigError


class Crop(NamedTuple):
    """The random parameters of one image's geometry."""

    height: int  # of the scaled image
    width: int
    top: int  # of the crop, in the scaled and padded image
    left: int
    flip: bool
    flip_vertical: bool = False
    quarter_turns: int = 0  # of the crop, counter-clockwise
    degrees: float = 0.0  # of the window that is cut out, about the middle of what it shows of the image


class Change(Protocol):
    """A drawn change of the image's values."""

    @property
    def words(self) -> str: ...

    def __call__(self, image: np.ndarray) -> np.ndarray: ...


class Changer(Protocol):
    """What draws a change, or none."""

    @property
    def name(self) -> str: ...

    def draw(self, rng: np.random.Generator) -> Change | None: ...


class Plan(NamedTuple):
    """Everything that is drawn for one image."""

    crop: Crop
    changes: Sequence[Change] = ()
    hole: Hole | None = None


class StandardAugment:
    """Image (uint8) and label (uint8 or uint16) to crop_size x crop_size, with random numbers from the given
    generator.

    Scaling, rotating, cropping and padding are one warp over the crop alone, so that the cost does not depend
    on the image's size. The result is that of resizing the whole image (bilinear; nearest for labels),
    padding on the right and bottom, and cropping.

    Scale, position and flip are drawn from the generator itself, in this order; each of the others from a
    generator of its own, derived from it by name (`Draws`). So switching one on changes no other.
    """

    def __init__(
        self,
        *,
        crop_size: int,
        scale_min: float,
        scale_max: float,
        flip: float,
        pad_pixel: tuple[int, ...],
        ignore_index: int,
        flip_vertical: float = 0,
        turn: float = 0,
        rotation: float = 0,
        jitter: float = 0,
        brightness: float = 0,
        contrast: float = 0,
        saturation: float = 0,
        hue: float = 0,
        grey: float = 0,
        blur: float = 0,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        noise: float = 0,
        noise_std: float = 0,
        cutout: float = 0,
        cutout_size: float = 0.25,
        cat_max_ratio: float | None = None,
    ) -> None:
        self.crop_size = crop_size
        self.scale_range = (scale_min, scale_max)
        self.flip = flip
        self.pad_pixel = pad_pixel
        self.ignore_index = ignore_index
        self.flip_vertical, self.turn, self.rotation = flip_vertical, turn, rotation
        self.cat_max_ratio = cat_max_ratio
        amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        self.changers: list[Changer] = []
        if jitter:
            self.changers.append(ColourJitter(jitter, **amounts))
        if grey:
            self.changers.append(Grey(grey))
        if blur:
            self.changers.append(Blur(blur, sigma=(blur_sigma[0], blur_sigma[1])))
        if noise:
            self.changers.append(Noise(noise, std=noise_std))
        self.cutout = Cutout(cutout, size=cutout_size) if cutout else None
        of_colour = {"grey": grey, **({"saturation": saturation, "hue": hue} if jitter else {})}
        used = [name for name, value in of_colour.items() if value]
        if used and len(pad_pixel) != 3:
            raise ConfigError(
                f"augment.{used[0]}={of_colour[used[0]]}, but the images have {len(pad_pixel)} channels, and "
                "only RGB images have colours",
                hint=" ".join(f"augment.{name}=0" for name in used),
            )

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Augmented:
        return self.apply(image, label, *self.plan(image, label, rng))

    def around(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, wanted: int
    ) -> Augmented:
        """As calling it, but the crop holds a random pixel of the class `wanted`, if the label has one; a
        rotated crop at the edge of the image may miss it, and scaling down may lose a single pixel.
        """
        return self.apply(image, label, *self.plan(image, label, rng, wanted=wanted))

    def described(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Described:
        """What calling it returns, and in words what was drawn."""
        plan = self.plan(image, label, rng)
        return (*self.apply(image, label, *plan), list(words_of(plan, image.shape[0])))

    # --- what is drawn --------------------------------------------------------------------------------------

    def plan(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, *, wanted: int | None = None
    ) -> Plan:
        crop = self.draw(image.shape[0], image.shape[1], rng)
        draws = Draws(rng)
        if self.flip_vertical:
            crop = crop._replace(flip_vertical=bool(draws.of("flip_vertical").random() < self.flip_vertical))
        if self.turn:
            of_turn = draws.of("turn")
            turned = of_turn.random() < self.turn
            crop = crop._replace(quarter_turns=int(of_turn.integers(1, 4)) if turned else 0)
        if self.rotation:
            crop = crop._replace(degrees=draws.of("rotation").uniform(-self.rotation, self.rotation))
        if wanted is not None:
            crop = self.placed(label, crop, draws.of("around"), wanted)
        if self.cat_max_ratio is not None:
            crop = self.balanced(label, crop, draws.of("redraw"), wanted)
        changes = [one.draw(draws.of(one.name)) for one in self.changers]
        hole = None
        if self.cutout is not None:
            hole = self.cutout.draw(draws.of(self.cutout.name), crop_size=self.crop_size)
        return Plan(crop, [change for change in changes if change is not None], hole)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        scale = rng.uniform(*self.scale_range)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        top = int(rng.integers(0, max(0, height - self.crop_size) + 1))
        left = int(rng.integers(0, max(0, width - self.crop_size) + 1))
        return Crop(height, width, top, left, bool(rng.random() < self.flip))

    def placed(self, label: np.ndarray, crop: Crop, rng: np.random.Generator, wanted: int | None) -> Crop:
        """The same crop at a random position: anywhere, or where it shows a random pixel of a class."""
        most = (max(0, crop.height - self.crop_size), max(0, crop.width - self.crop_size))
        pixel = None if wanted is None else random_pixel(label, wanted, rng)
        if pixel is None:
            top, left = (int(rng.integers(0, last + 1)) for last in most)
            return crop._replace(top=top, left=left)
        # The pixel is to be seen at a random place of the window, which is turned about its middle.
        row, column = (
            (at + 0.5) * size / full for at, size, full in zip(pixel, crop[:2], label.shape, strict=True)
        )
        half = self.crop_size / 2
        down, across = (rng.uniform(-half, half) for _ in range(2))
        sine, cosine = sin_cos(crop.degrees)
        middle = row - (sine * across + cosine * down), column - (cosine * across - sine * down)
        top, left = (min(last, max(0, round(at - half))) for at, last in zip(middle, most, strict=True))
        return crop._replace(top=top, left=left)

    def balanced(self, label: np.ndarray, crop: Crop, rng: np.random.Generator, wanted: int | None) -> Crop:
        """The crop, or where one class has too large a share of its valid pixels another one; the last of
        MOST_REDRAWS where all have.
        """
        assert self.cat_max_ratio is not None
        for _ in range(MOST_REDRAWS):
            cut = self.cut(label, crop, fill=self.ignore_index, interpolation=cv2.INTER_NEAREST)
            if largest_share(cut, self.ignore_index) <= self.cat_max_ratio:
                break
            crop = self.placed(label, crop, rng, wanted)
        return crop

    # --- what is done ---------------------------------------------------------------------------------------

    def apply(
        self,
        image: np.ndarray,
        label: np.ndarray,
        crop: Crop,
        changes: Sequence[Change] = (),
        hole: Hole | None = None,
    ) -> Augmented:
        cut_image = self.cut(
            image, crop, fill=self.pad_pixel, interpolation=cv2.INTER_LINEAR, changes=changes
        )
        cut_label = self.cut(label, crop, fill=self.ignore_index, interpolation=cv2.INTER_NEAREST)
        if hole is not None:
            hole.cut(cut_image, cut_label, pad_pixel=self.pad_pixel, ignore_index=self.ignore_index)
        return reflected(cut_image, crop), reflected(cut_label, crop)

    def cut(
        self,
        source: np.ndarray,
        crop: Crop,
        *,
        fill: int | tuple[int, ...],
        interpolation: int,
        changes: Sequence[Change] = (),
    ) -> np.ndarray:
        """The crop's part of an image or label, before flips. The padding is `fill`, which `changes` do not
        change.
        """
        size = self.crop_size
        rows, columns = min(size, crop.height - crop.top), min(size, crop.width - crop.left)
        shown = (size, size) if crop.degrees else (rows, columns)
        part = self.warp(source, crop, *shown, interpolation)
        for change in changes:
            part = change(part)
        if crop.degrees:
            part[self.outside(source, crop)] = fill
            return part
        whole = np.empty((size, size, *source.shape[2:]), source.dtype)
        whole[:] = fill
        whole[:rows, :columns] = part
        return whole

    def warp(self, source: np.ndarray, crop: Crop, rows: int, columns: int, interpolation: int) -> np.ndarray:
        """The crop's part of the scaled image. Pixel centres: source = (scaled + 0.5) * ratio - 0.5."""
        if crop.degrees:
            to_source = self.rotated_to_source(source, crop)
        else:
            vertical, horizontal = source.shape[0] / crop.height, source.shape[1] / crop.width
            to_source = np.array(
                [
                    [horizontal, 0, (crop.left + 0.5) * horizontal - 0.5],
                    [0, vertical, (crop.top + 0.5) * vertical - 0.5],
                ],
                dtype=np.float64,
            )
        flags = interpolation | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(
            source, to_source, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped).reshape(rows, columns, *source.shape[2:])  # OpenCV drops a single channel

    def rotated_to_source(self, source: np.ndarray, crop: Crop) -> np.ndarray:
        """2 x 3: from a column and row of the crop to those of the source. The window is turned about the
        middle of what it shows of the image: its own, unless the image is smaller.
        """
        ratios = np.array([source.shape[1] / crop.width, source.shape[0] / crop.height])
        corner = np.array([crop.left, crop.top])
        middle = np.minimum(self.crop_size, np.array([crop.width, crop.height]) - corner) / 2
        sine, cosine = sin_cos(crop.degrees)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        offset = corner + middle + turn @ (0.5 - middle)
        return np.column_stack([ratios[:, None] * turn, ratios * offset - 0.5])

    def outside(self, source: np.ndarray, crop: Crop) -> np.ndarray:
        """Where a rotated crop's pixel has its centre outside the image."""
        to_source = self.rotated_to_source(source, crop).astype(np.float32)
        steps = np.arange(self.crop_size, dtype=np.float32)
        found = np.zeros((self.crop_size, self.crop_size), bool)
        for (across, down, offset), size in zip(to_source, (source.shape[1], source.shape[0]), strict=True):
            position = np.add.outer(down * steps + offset, across * steps)
            found |= (position < -0.5) | (position >= size - 0.5)
        return found


def sin_cos(degrees: float) -> tuple[float, float]:
    return math.sin(math.radians(degrees)), math.cos(math.radians(degrees))


def reflected(array: np.ndarray, crop: Crop) -> np.ndarray:
    """A crop, flipped and turned as drawn."""
    if crop.flip:
        array = array[:, ::-1]
    if crop.flip_vertical:
        array = array[::-1]
    if crop.quarter_turns:
        array = np.rot90(array, crop.quarter_turns)
    return np.ascontiguousarray(array)


def words_of(plan: Plan, height: int) -> Iterator[str]:
    """What was drawn for an image of this height."""
    crop = plan.crop
    yield f"scale {crop.height / height:.2f}"
    yield f"crop at row {crop.top}, column {crop.left}"
    if crop.degrees:
        yield f"rotated by {crop.degrees:.1f} degrees"
    yield from (change.words for change in plan.changes)
    if plan.hole:
        yield plan.hole.words
    if crop.flip:
        yield "flipped"
    if crop.flip_vertical:
        yield "flipped vertically"
    if crop.quarter_turns:
        yield f"turned by {90 * crop.quarter_turns} degrees"
