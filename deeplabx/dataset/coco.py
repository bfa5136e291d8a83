"""Your own images with COCO JSON: polygons and run lengths, of objects or of regions.

images/train/a.jpg  annotations/train.json     or train/a.jpg with train/_annotations.coco.json; or one JSON
of all images (dataset.annotations), which dataset.val_fraction or dataset.folds splits
"""

import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deeplabx.dataset.drawings import MOST_PIXELS, Drawings, ImageShapes, Shape, polygon, run_lengths
from deeplabx.dataset.drawn import DrawnFiles, words_of_classes
from deeplabx.dataset.files import Pairs, with_files
from deeplabx.dataset.json_file import read_lists
from deeplabx.dataset.label_names import LabelNames, label_names, unknown_label
from deeplabx.dataset.listing import Names, contents, images_beside_json, leads_out, nfc
from deeplabx.dataset.problems import report
from deeplabx.dataset.splits import Partition, file_of_all, indices_of
from deeplabx.errors import DataError, printable, quoted

ROBOFLOW = "_annotations.coco.json"
COCOS_OWN = "instances_"  # before the name of a folder of images, as in COCO's and CVAT's files
MOST_LOOKED_FOR = 20  # images, in each folder where they may be


class CocoFiles(DrawnFiles):
    """One split of the folder `base`. annotations: the one JSON of all images, below it. A later annotation
    covers those before it. unlabelled: background or ignore.
    """

    def __init__(
        self,
        *,
        base: Path,
        split: str,
        partition: Partition,
        annotations: str | None = None,
        unlabelled: str = "background",
    ) -> None:
        path = json_of(base, split, partition, annotations)
        content = CocoJson(path)
        chosen = sorted(range(len(content.names)), key=lambda index: content.names[index])
        if partition.setting:
            names = [content.names[index] for index in chosen]
            chosen = [chosen[index] for index in indices_of(names, split, partition, where=path)]
        folder = images_folder(base, split, path, [content.names[index] for index in chosen])
        files = Names()
        pairs: Pairs = [
            (files.path(folder, content.names[index]), path / str(content.ids[index])) for index in chosen
        ]
        if not pairs:
            raise DataError(f"{path} lists no images")
        kept = with_files(pairs, 0, where=path, hint=f"looked for them in {folder}")
        if len(kept) < len(pairs):
            there = set(kept)
            chosen = [index for index, pair in zip(chosen, pairs, strict=True) if pair in there]
        found = content.labels()
        names_of_classes = label_names(base, found, unlabelled=unlabelled, where=path)
        shapes = content.shapes(chosen, names_of_classes)
        by_id = content.errors()
        errors = {label: by_id[int(label.name)] for _, label in kept if int(label.name) in by_id}
        super().__init__(kept, shapes, names_of_classes, errors=errors)
        self.left_out = [
            *([] if (base / "classes.yaml").is_file() else [words_of_classes(names_of_classes, found, path)]),
            *self.words_of_empty(),
            *words_of_unlisted(folder, path, {files.path(folder, name) for name in content.names}),
        ]


class CocoJson:
    """The content of a COCO JSON. names: of the image files, in NFC; ids: of the images."""

    def __init__(self, path: Path) -> None:
        self.path, self.drawings = path, Drawings()
        self.names: list[str] = []
        self.ids: list[int] = []
        self.categories: dict[int, str] = {}
        self.rle_sizes: dict[int, tuple[int, int]] = {}  # of annotations: the height and width they state
        self.faults: list[tuple[object, str]] = []  # the id of an image, and what is wrong with an annotation
        takers = {
            "images": self.take_image,
            "annotations": self.take_annotation,
            "categories": self.take_category,
        }
        found = read_lists(path, takers)
        lacking = [name for name in takers if name not in found]
        if lacking:
            raise DataError(
                f"{path} has no {' and no '.join(lacking)}",
                hint="COCO JSON has images, annotations and categories",
            )
        self.refuse_doubles()

    def take_image(self, image: Any) -> None:
        if not isinstance(image, dict):
            raise DataError(f"{self.path}: an image is {quoted(image)}, not an object")
        number, name = image.get("id"), image.get("file_name")
        if type(number) is not int or abs(number) >= 1 << 62:
            raise DataError(
                f"{self.path}: the id of image {quoted(name)} is {quoted(number)}, not a whole number"
            )
        if not isinstance(name, str) or not name:
            raise DataError(f"{self.path}: image {number} has no file_name")
        name = self.file_name(name)
        height, width = image.get("height"), image.get("width")
        if not (type(height) is int and type(width) is int and min(height, width) > 0):
            raise DataError(
                f"{self.path}: image {quoted(name)} has height {quoted(height)} and width {quoted(width)}, "
                "which must be whole numbers"
            )
        if height * width > MOST_PIXELS:
            raise DataError(f"{self.path}: image {quoted(name)} of {width} x {height} pixels is too large")
        self.drawings.add_image(height=height, width=width)
        self.ids.append(number)
        self.names.append(name)

    def file_name(self, name: str) -> str:
        """The name of an image's file as it is compared: in NFC, with one / between folders, without ./"""
        path = name.replace("\\", "/")
        if leads_out(path):
            raise DataError(
                f"{self.path}: {quoted(name)} leads out of the data set's folder",
                hint="names are relative, without ..",
            )
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            raise DataError(f"{self.path}: {quoted(name)} cannot be the name of a file") from None
        return nfc(PurePosixPath(path).as_posix())

    def take_category(self, category: Any) -> None:
        number, name = (
            (category.get("id"), category.get("name")) if isinstance(category, dict) else (None, None)
        )
        if type(number) is not int or not isinstance(name, str) or not name:
            raise DataError(f"{self.path}: a category is {quoted(category)}, without a whole id and a name")
        if number in self.categories:
            raise DataError(f"{self.path}: {number} is the id of two categories")
        self.categories[number] = name

    def take_annotation(self, annotation: Any) -> None:
        try:
            if not isinstance(annotation, dict):
                raise ValueError(f"it is {quoted(annotation)}, not an object")
            image, category = (whole(annotation, key) for key in ("image_id", "category_id"))
            shape, size = shape_of(annotation.get("segmentation"))
        except ValueError as error:
            about = annotation if isinstance(annotation, dict) else {}
            self.faults.append((about.get("image_id"), f"annotation {quoted(about.get('id'))}: {error}"))
            return
        if size is not None:
            self.rle_sizes[len(self.drawings.owners)] = size
        self.drawings.add(image, category, shape)

    def refuse_doubles(self) -> None:
        for what, values in (
            ("id of two images", self.ids),
            ("file_name of two images", self.names),
            ("name of two categories", list(self.categories.values())),
        ):
            if len(set(values)) < len(values):
                twice = next(value for value, count in Counter(values).items() if count > 1)
                raise DataError(f"{self.path}: {quoted(twice)} is the {what}")

    def labels(self) -> list[str]:
        """The names of the categories, in the order of their ids."""
        return [self.categories[number] for number in sorted(self.categories)]

    def shapes(self, images: list[int], names: LabelNames) -> ImageShapes:
        """The shapes of some images. Reports a DataError for annotations of no image or category, and raises
        one for a category that is no class.
        """
        raw_images, raw_categories = (
            np.array(one, np.int64) for one in (self.drawings.owners, self.drawings.class_ids)
        )
        owners = looked_up(raw_images, {number: index for index, number in enumerate(self.ids)})
        self.report_unknown("image_id", raw_images[owners < 0])
        numbers = {number: index for index, number in enumerate(self.categories)}
        category = looked_up(raw_categories, numbers)
        self.report_unknown("category_id", raw_categories[category < 0])
        train_ids = []
        for number, label in self.categories.items():
            try:
                train_ids.append(names.train_id(label))
            except ValueError as error:
                if (raw_categories == number).any():
                    raise DataError(f"{self.path}: {error}", hint=unknown_label(label, names)) from None
                train_ids.append(-1)  # a category that no annotation has
        class_ids = np.where(category < 0, -1, np.array([*train_ids, -1], np.int64)[category])
        self.note_other_sizes(owners)
        return ImageShapes(self.drawings, images, owners=owners, class_ids=class_ids)

    def report_unknown(self, key: str, values: np.ndarray) -> None:
        if values.size:
            words = f"unknown {key} in {values.size:,} annotation{'s' if values.size > 1 else ''}"
            report(DataError(f"{self.path}: {words}, the first: {values[0]}"))

    def note_other_sizes(self, owners: np.ndarray) -> None:
        """Run lengths of another size than their image are a fault, and are not drawn."""
        sizes = np.array(self.drawings.sizes, np.int64).reshape(-1, 2)
        for number, size in self.rle_sizes.items():
            image = int(owners[number])
            height, width = sizes[image].tolist() if image >= 0 else size
            if (height, width) != size:
                words = f"run lengths of {size[1]} x {size[0]} for an image of {width} x {height}"
                self.faults.append((self.ids[image], words))
                owners[number] = -1

    def errors(self) -> dict[int, DataError]:
        """By the id of an image: what is wrong on it. Reports a DataError for those of no image."""
        known, words_of = set(self.ids), dict[int, list[str]]()
        of_no_image = []
        for image, words in self.faults:
            if type(image) is int and image in known:
                words_of.setdefault(image, []).append(words)
            else:
                of_no_image.append(words)
        if of_no_image:
            report(
                DataError(
                    f"{self.path}: {len(of_no_image):,} annotations of no image cannot be used, the first: "
                    f"{of_no_image[0]}"
                )
            )
        return {image: self.error(words) for image, words in words_of.items()}

    def error(self, words: list[str]) -> DataError:
        more = f" ({len(words) - 1:,} more of this image)" if len(words) > 1 else ""
        return DataError(f"{self.path}: {words[0]}{more}", hint="remove it, or correct it")


def whole(annotation: dict[str, Any], key: str) -> int:
    """Raises ValueError for what is no whole number of 63 bits."""
    number = annotation.get(key)
    if type(number) is not int or abs(number) >= 1 << 62:
        raise ValueError(f"its {key} is {quoted(number)}, not a whole number")
    return number


def shape_of(segmentation: Any) -> tuple[Shape, tuple[int, int] | None]:
    """The shape, and of run lengths the size (height, width) that they state. Raises ValueError."""
    if isinstance(segmentation, list) and segmentation:
        return polygon(segmentation), None
    if not isinstance(segmentation, dict):
        raise ValueError("it has no segmentation, perhaps only a box or a caption")
    size = segmentation.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(one) is int and one > 0 for one in size)):
        raise ValueError(f"its size is {quoted(size)}, not [height, width]")
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"its size {quoted(size)} is too large")
    return run_lengths(segmentation.get("counts"), (size[0], size[1])), (size[0], size[1])


def looked_up(values: np.ndarray, index_of: dict[int, int]) -> np.ndarray:
    """The index of each value; -1 where it is not known."""
    known, where = np.unique(values, return_inverse=True)
    indices = np.array([index_of.get(value, -1) for value in known.tolist()], np.int64)
    return indices[where] if values.size else values


# --- where things are ---------------------------------------------------------------------------------------


def json_of(base: Path, split: str, partition: Partition, annotations: str | None) -> Path:
    """The JSON of a split, or the one of all images where they are split here."""
    if annotations is not None:
        return file_of_all(base, annotations, partition, what="JSON")
    folder = base / "annotations"
    if partition.setting:
        found = sorted(path for place in (folder, base) for path in place.glob("*.json") if path.is_file())
        if len(found) != 1:
            names = ", ".join(path.relative_to(base).as_posix() for path in found[:4]) or "none"
            raise DataError(
                f"{partition.setting} splits one JSON of all images, but {base} has {len(found)}: {names}",
                hint="set dataset.annotations to one of them, as in annotations/all.json",
            )
        return found[0]
    places = [folder / f"{split}.json", base / f"{split}.json", base / split / ROBOFLOW]
    found = [path for path in places if path.is_file()]
    if len(found) != 1:
        what = "neither " + " nor ".join(path.relative_to(base).as_posix() for path in places)
        twice = "both " + " and ".join(path.relative_to(base).as_posix() for path in found)
        raise DataError(
            f"{base} has {twice if found else what}; {contents(folder if folder.is_dir() else base)}",
            hint="remove one of them"
            if found
            else "annotations/train.json has the images of train; one JSON of all images is split with "
            "dataset.val_fraction=0.2",
        )
    return found[0]


def images_folder(base: Path, split: str, path: Path, names: list[str]) -> Path:
    """The folder that the names of images are relative to: the first in which some of them are."""
    stem = path.stem.removeprefix(COCOS_OWN)
    near = [base / "images" / split, base / "images" / stem, base / "images", base / split, base / stem]
    places = [place for place in [*near, path.parent, base] if place.is_dir()]
    files = Names()
    for place in places:
        if any(files.path(place, name).is_file() for name in names[:MOST_LOOKED_FOR]):
            return place
    return places[0]


def words_of_unlisted(folder: Path, path: Path, listed: set[Path]) -> list[str]:
    """What lies among the images and is not in the JSON."""
    found = images_beside_json(folder)
    rest = [one for one in found.paths if one not in listed]
    words = list(found.left_out)
    if rest:
        words.append(f"{len(rest)} images below {folder} are not in {path.name}, the first: {rest[0]}")
    return [printable(one) for one in words]
