"""Your own images with LabelMe's JSON files, beside the images or in labels/.

images/train/a.jpg  images/train/a.json     or images/train/a.jpg  labels/train/a.json
"""

import base64
import binascii
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplabx.dataset.drawings import (
    MOST_PIXELS,
    Drawings,
    ImageShapes,
    Shape,
    circle,
    coordinates,
    mask,
    polygon,
)
from deeplabx.dataset.drawn import DrawnFiles, words_of_classes
from deeplabx.dataset.files import complete
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.json_file import read_object
from deeplabx.dataset.label_file import shown_size
from deeplabx.dataset.label_names import LabelNames, label_names, unknown_label
from deeplabx.dataset.listing import Names, found_in, images_beside_json, refuse_two_of_a_name
from deeplabx.dataset.splits import Partition, images_of_split
from deeplabx.errors import DataError, printable, quoted

MOST_BYTES = 512 * 2**20  # of a file, which may hold the image too
LABELS = "labels"
POINTS = {"rectangle": 2, "circle": 2, "mask": 2}  # of the kinds with a fixed number
WITHOUT_AREA = ("line", "linestrip", "point", "points")


class LabelMeFiles(DrawnFiles):
    """One split of the folder `base`. A later shape covers those before it. unlabelled: background or
    ignore.
    """

    def __init__(
        self, *, base: Path, split: str, partition: Partition, unlabelled: str = "background"
    ) -> None:
        images = base / "images" if (base / "images").is_dir() else base
        labels = base / LABELS if (base / LABELS).is_dir() else images
        found = images_of_split(base, images, split, partition, look=images_beside_json)
        refuse_two_of_a_name(found.paths)
        pairs = complete(
            list(zip(found.paths, json_files(images, labels, found.paths), strict=True)),
            where=f"{base}, split {split}",
            hint=f"the label of {images.name}/a.jpg is {labels.name}/a.json; save an empty image without "
            "shapes, so that it has a JSON file too",
        )
        all_files = found_in(labels, suffixes=(".json",)).paths
        labels_found = [] if (base / "classes.yaml").is_file() else labels_in(all_files)
        names = label_names(base, labels_found, unlabelled=unlabelled, where=labels)
        drawings = Drawings()
        errors: dict[Path, DataError] = {}
        for image, path in pairs:
            try:
                add_file(drawings, image, path, names)
            except DataError as error:  # raised when the label is read, or skipped there
                errors[path] = error
                drawings.add_image(height=1, width=1)
        shapes = ImageShapes(
            drawings,
            range(len(pairs)),
            owners=np.array(drawings.owners, np.int64),
            class_ids=np.array(drawings.class_ids, np.int64),
        )
        super().__init__(pairs, shapes, names, errors=errors)
        self.left_out = [
            *found.left_out,
            *([words_of_classes(names, labels_found, labels)] if labels_found else []),
            *self.words_of_empty(),
            *words_without_image(images, labels, all_files),
        ]


def json_files(images: Path, labels: Path, paths: list[Path]) -> Iterator[Path]:
    """The label file of each image, at its relative path below `labels`."""
    files = Names()
    for path in paths:
        yield files.path(labels, path.relative_to(images).with_suffix(".json"))


def words_without_image(images: Path, labels: Path, all_files: list[Path]) -> list[str]:
    used = set(json_files(images, labels, images_beside_json(images).paths))
    rest = [path for path in all_files if path not in used]
    if not rest:
        return []
    return [printable(f"label files below {labels} without an image: {len(rest)}, the first: {rest[0]}")]


# --- one file -----------------------------------------------------------------------------------------------


def labels_in(files: list[Path]) -> list[str]:
    """The labels of all shapes, sorted."""
    found: set[str] = set()
    errors = []
    for path in files:
        try:
            found |= {
                label_of(shape, path) for shape in shapes_in(read_object(path, most_bytes=MOST_BYTES), path)
            }
        except DataError as error:  # raised when the label is read, in its split
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return sorted(found)


def add_file(drawings: Drawings, image: Path, path: Path, names: LabelNames) -> None:
    """Add an image with the shapes of its label file. Raises DataError before anything is added."""
    content = read_object(path, most_bytes=MOST_BYTES)
    height, width = size_of(content, image, path)
    shapes = []
    for number, shape in enumerate(shapes_in(content, path)):
        label = label_of(shape, path)
        try:
            class_id = names.train_id(label)
        except ValueError as error:
            raise DataError(f"{path}: {error}", hint=unknown_label(label, names)) from None
        try:
            shapes.append((class_id, shape_of(shape, (height, width))))
        except ValueError as error:
            raise DataError(f"{path}: shape {number}, {quoted(label)}: {error}") from None
    index = drawings.add_image(height=height, width=width)
    for class_id, found in shapes:
        drawings.add(index, class_id, found)


def shapes_in(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    shapes = content.get("shapes")
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{path} is not LabelMe's: it has no list of shapes")
    return shapes


def label_of(shape: dict[str, Any], path: Path) -> str:
    label = shape.get("label")
    if not isinstance(label, str) or not label:
        raise DataError(f"{path}: the label of a shape is {quoted(label)}, not a text")
    return label


def size_of(content: dict[str, Any], image: Path, path: Path) -> tuple[int, int]:
    """Height and width that a file states; those of its image where old versions of LabelMe stated none."""
    height: Any = content.get("imageHeight")
    width: Any = content.get("imageWidth")
    if height is None and width is None:
        header = header_of(image, mask=False)
        width, height = shown_size(header.size, header.orientation)
        return height, width
    given = type(height) is int and type(width) is int
    if not given or min(height, width) < 1 or height * width > MOST_PIXELS:
        raise DataError(
            f"{path}: imageHeight is {quoted(height)} and imageWidth {quoted(width)}, which must be whole "
            "numbers, not too large"
        )
    return height, width


def shape_of(shape: dict[str, Any], size: tuple[int, int]) -> Shape:
    """A shape in an image of `size` (height, width). Raises ValueError."""
    kind = shape.get("shape_type", "polygon")
    kind = kind if isinstance(kind, str) else quoted(kind)
    if kind in WITHOUT_AREA:
        raise ValueError(f"a {kind} has no area; draw a polygon, or remove it")
    if kind != "polygon" and kind not in POINTS:
        raise ValueError(f"shape_type {quoted(kind)} is not one of polygon, {', '.join(POINTS)}")
    points = points_of(shape.get("points"))
    if kind in POINTS and len(points) != POINTS[kind]:
        raise ValueError(f"a {kind} of {len(points)} points, not {POINTS[kind]}")
    if kind == "polygon":
        return polygon([points.ravel().tolist()])
    if kind == "circle":
        return circle(points[0], points[1])
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if kind == "rectangle":
        return polygon([[left, top, right, top, right, bottom, left, bottom]])
    pixels = mask_of(shape.get("mask"))
    box = round(bottom) - round(top) + 1, round(right) - round(left) + 1
    if pixels.shape != box:
        raise ValueError(f"a mask of {pixels.shape[1]} x {pixels.shape[0]} in a box of {box[1]} x {box[0]}")
    return mask(pixels, left=round(left), top=round(top), size=size)


def points_of(points: Any) -> np.ndarray:
    """N x 2."""
    if not isinstance(points, list) or not all(isinstance(one, list) and len(one) == 2 for one in points):
        raise ValueError(f"points must be a list of [x, y], not {quoted(points)}")
    return coordinates([number for point in points for number in point]).reshape(-1, 2)


def mask_of(text: Any) -> np.ndarray:
    """bool pixels of a PNG file in base64."""
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"its mask of {image.width} x {image.height} is too large")
            return np.array(image.convert("L")) > 0
    except (TypeError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError("its mask is not a PNG file in base64") from None
