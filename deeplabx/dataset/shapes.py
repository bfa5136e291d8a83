"""Generated images: six shapes on a greyish, textured background, each pixel a function of (split, index).
Nothing is stored or downloaded.

Colour separates an object from the background and leaves two possible classes; only its form tells these
apart. There are thin and small objects, textures that are unrelated to the class, occlusion, and a void
border of 255 around objects, as VOC has.
"""

import colorsys

import cv2
import numpy as np

from deeplabx.dataset.contract import IGNORE_INDEX, Palette, Sample, SegmentationSet
from deeplabx.errors import DataError

CLASSES = ["background", "disc", "square", "triangle", "ring", "cross", "bar"]
PALETTE: Palette = [
    (0, 0, 0),
    (230, 60, 60),
    (60, 160, 230),
    (240, 200, 50),
    (150, 80, 200),
    (70, 190, 100),
    (240, 140, 40),
]
HEIGHT, WIDTH = 65, 97  # k * 16 + 1
SPLITS = ("train", "val")
ROWS, COLUMNS = (grid.astype(np.float32) for grid in np.mgrid[:HEIGHT, :WIDTH])
BORDER = np.ones((5, 5), np.uint8)  # the void border is two pixels wide


class Shapes(SegmentationSet):
    classes = CLASSES
    palette = PALETTE

    def __init__(self, *, split: str, train_images: int, val_images: int, root: str | None = None) -> None:
        if root is not None:
            raise DataError(
                f"dataset.root={root}: dataset=shapes is generated and reads no files",
                hint="name the data set of that folder too: dataset=folder (or voc, cityscapes, camvid)",
            )
        if split not in SPLITS:
            raise DataError(
                f"dataset.split={split} is not a split of shapes", hint=f"its splits are {', '.join(SPLITS)}"
            )
        self.split = split
        self.length = train_images if split == "train" else val_images

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([SPLITS.index(self.split), index])
        image, label = draw_ground(rng), np.zeros((HEIGHT, WIDTH), np.uint8)
        for _ in range(rng.integers(1, 4)):
            draw_object(rng, image, label)
        noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(2, 6)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return Sample(image, label)


def draw_ground(rng: np.random.Generator) -> np.ndarray:
    """A greyish, textured background with up to two faint, soft-edged patches of another brightness, float32
    H x W x 3.
    """
    ground = greyish(textured(rng, TEXTURES[rng.integers(len(TEXTURES))](rng), (0, 1)))
    for _ in range(rng.integers(0, 3)):
        patch = np.zeros((HEIGHT, WIDTH), np.float32)
        corners = rng.uniform((-20, -20), (WIDTH + 20, HEIGHT + 20), (4, 2)).astype(np.int32)
        cv2.fillPoly(patch, [cv2.convexHull(corners)], 0.4)
        ground += (greyish(textured(rng, soft(rng), (0, 1))) - ground) * cv2.blur(patch, (9, 9))[..., None]
    return ground


def greyish(colours: np.ndarray) -> np.ndarray:
    grey = colours.mean(axis=2, keepdims=True)
    return grey + (colours - grey) * np.float32(0.2)


def draw_object(rng: np.random.Generator, image: np.ndarray, label: np.ndarray) -> None:
    """Draw one object over the image, in place, with its void border."""
    index = int(rng.integers(1, len(CLASSES)))
    form, hues = OBJECTS[CLASSES[index]]
    radius = float(np.exp(rng.uniform(np.log(9), np.log(22))))
    centre = rng.uniform((0.8 * radius, 0.8 * radius), (WIDTH - 0.8 * radius, HEIGHT - 0.8 * radius))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    form(rng, mask, centre, radius)
    inside = mask > 0
    image[inside] = textured(rng, TEXTURES[rng.integers(len(TEXTURES))](rng), hues)[inside]
    label[(cv2.dilate(mask, BORDER) > 0) & ~inside] = IGNORE_INDEX
    label[inside] = index


# --- textures: each a weight H x W in 0..1 between two colours ----------------------------------------------


def textured(rng: np.random.Generator, weight: np.ndarray, hues: tuple[float, float]) -> np.ndarray:
    """Two colours of one hue (drawn within `hues`, in turns) blended by a weight; float32 H x W x 3 in
    0..255.
    """
    hue, saturation, value = rng.uniform(*hues), rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0)
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)
    other = colour * np.float32(rng.uniform(0.5, 0.8))
    return colour + (other - colour) * weight[..., None]


def soft(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(rng.random((4, 6), dtype=np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def stripes(rng: np.random.Generator) -> np.ndarray:
    angle, width = rng.uniform(0, np.pi), rng.uniform(2, 5)
    along = COLUMNS * np.float32(np.cos(angle)) + ROWS * np.float32(np.sin(angle))
    return (along % (2 * width) > width).astype(np.float32)


def speckles(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((HEIGHT, WIDTH), dtype=np.float32) > 0.6).astype(np.float32)


TEXTURES = (soft, stripes, speckles)


# --- the forms: each draws into a mask around a centre (x, y) -----------------------------------------------


def polygon(mask: np.ndarray, points: np.ndarray, centre: np.ndarray, angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cv2.fillPoly(mask, [np.rint(points @ turn.T + centre).astype(np.int32)], 1)


def disc(rng: np.random.Generator, mask: np.ndarray, centre: np.ndarray, radius: float) -> None:
    cv2.circle(mask, np.rint(centre).astype(int).tolist(), round(radius), 1, -1)


def square(rng: np.random.Generator, mask: np.ndarray, centre: np.ndarray, radius: float) -> None:
    corners = radius * np.array([[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]])
    polygon(mask, corners, centre, rng.uniform(0, np.pi / 2))


def triangle(rng: np.random.Generator, mask: np.ndarray, centre: np.ndarray, radius: float) -> None:
    corners = 1.2 * radius * np.array([[np.cos(a), np.sin(a)] for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)])
    polygon(mask, corners, centre, rng.uniform(0, 2 * np.pi))


def ring(rng: np.random.Generator, mask: np.ndarray, centre: np.ndarray, radius: float) -> None:
    width = max(3, round(radius * rng.uniform(0.3, 0.45)))
    cv2.circle(mask, np.rint(centre).astype(int).tolist(), max(6, round(0.9 * radius)), 1, width)


def cross(rng: np.random.Generator, mask: np.ndarray, centre: np.ndarray, radius: float) -> None:
    long, short, angle = 1.2 * radius, max(1.5, 0.18 * radius), rng.uniform(0, np.pi / 2)
    for half_width, half_height in ((long, short), (short, long)):
        corners = np.array(
            [
                [-half_width, -half_height],
                [half_width, -half_height],
                [half_width, half_height],
                [-half_width, half_height],
            ]
        )
        polygon(mask, corners, centre, angle)


def bar(rng: np.random.Generator, mask: np.ndarray, centre: np.ndarray, radius: float) -> None:
    half_length, angle = radius * rng.uniform(1.2, 2.2), rng.uniform(0, np.pi)
    offset = half_length * np.array([np.cos(angle), np.sin(angle)])
    ends = np.rint([centre - offset, centre + offset]).astype(int).tolist()
    cv2.line(mask, ends[0], ends[1], 1, int(rng.integers(2, 5)))


WARM, GREEN, COOL = (-0.08, 0.14), (0.22, 0.42), (0.52, 0.78)  # hues, in turns; two classes share each
OBJECTS = {
    "disc": (disc, WARM),
    "ring": (ring, WARM),
    "triangle": (triangle, GREEN),
    "bar": (bar, GREEN),
    "square": (square, COOL),
    "cross": (cross, COOL),
}
