"""Faults as people make them, planted into a folder data set whose true labels are known."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.writing import write_ids

VOID = 255
PALETTE = np.array(voc_palette(256), np.uint8)


@dataclass
class Sample:
    split: str
    name: str
    image: np.ndarray  # uint8 H x W x 3
    ids: np.ndarray  # uint8 H x W of train ids, and VOID


@dataclass
class Planted:
    """A folder data set, and what its labels are in truth. truth: by image name; a sample that is not in it
    is to be left out.
    """

    root: Path
    samples: list[Sample]
    classes: list[str]
    rng: np.random.Generator
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    most_wrong: float = 0.0  # largest share of pixels that may have a wrong class: the fault destroyed them
    unsure: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # bool H x W: labels that the fault itself moved
    renamed: bool = False  # whether the names of the classes cannot be known
    most_void: float = 0.02  # largest share of pixels that may become void: some photos of VOC have a frame

    def image_path(self, one: Sample, suffix: str = ".jpg") -> Path:
        return self.root / "images" / one.split / f"{one.name}{suffix}"

    def mask_path(self, one: Sample, suffix: str = ".png") -> Path:
        return self.root / "masks" / one.split / f"{one.name}{suffix}"

    def write(self) -> None:
        """The data set without a fault."""
        for one in self.samples:
            save(self.image_path(one), one.image)
            write_ids(self.mask_path(one), one.ids, voc_palette(256))
            self.truth[f"{one.split}/{one.name}"] = one.ids
        self.state({"classes": self.classes, "ignore": [VOID]})

    def state(self, content: dict[str, object]) -> None:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (self.root / "classes.yaml").write_text(text, encoding="utf-8")

    def rewrite(self, change: Callable[[np.ndarray], np.ndarray], *, share: float = 1.0) -> list[Sample]:
        """Write the masks of some samples again, as `change` makes them of the ids."""
        chosen = [one for one in self.samples if share == 1 or self.rng.random() < share] or self.samples[:1]
        for one in chosen:
            self.mask_path(one).unlink()
            Image.fromarray(change(one.ids)).save(self.mask_path(one))
        return chosen

    def two_classes(self) -> None:
        """Foreground and background instead of the classes, without void."""
        most = int(
            np.bincount(np.concatenate([one.ids.ravel() for one in self.samples]), minlength=256)[
                :255
            ].argmax()
        )
        for one in self.samples:
            one.ids = (one.ids != most).astype(np.uint8)
        self.classes = ["background", "object"]
        self.write()

    def key(self, one: Sample) -> str:
        return f"{one.split}/{one.name}"


def save(path: Path, image: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)  # type: ignore[arg-type]


def coloured(ids: np.ndarray) -> np.ndarray:
    return PALETTE[ids]


# --- values -------------------------------------------------------------------------------------------------


def palette_as_colour(data: Planted) -> None:
    data.rewrite(coloured)


def palette_as_grey(data: Planted) -> None:
    """Read with OpenCV's default and saved again."""
    data.rewrite(lambda ids: np.array(Image.fromarray(coloured(ids)).convert("L")))
    data.most_void = 1.0  # a grey may be of two classes


def rgb_masks(data: Planted) -> None:
    colours = data.rng.integers(0, 256, (256, 3)).astype(np.uint8)
    data.rewrite(lambda ids: colours[ids])
    data.renamed = True
    for key, ids in data.truth.items():  # void is a colour like any other
        data.truth[key] = ids


def zero_255(data: Planted) -> None:
    data.two_classes()
    data.rewrite(lambda ids: ids * np.uint8(255))
    data.state(
        {"classes": data.classes, "ignore": [VOID]} if data.rng.random() < 0.5 else {"classes": data.classes}
    )


def off_by_one(data: Planted) -> None:
    for one in data.samples:  # all classes occur somewhere
        one.ids[:2, : 4 * len(data.classes)] = np.repeat(np.arange(len(data.classes)), 4).astype(np.uint8)
    data.write()
    data.rewrite(lambda ids: np.where(ids == VOID, VOID, ids + 1).astype(np.uint8))


def background_not_named(data: Planted) -> None:
    background = data.classes.pop(0) if data.classes[0] == "background" else None
    if background is None:
        for one in data.samples:
            one.ids[one.ids != VOID] += 1
            one.ids[-3:, -3:] = 0
    for one in data.samples:
        one.ids[:2, : 4 * (len(data.classes) + 1)] = np.repeat(np.arange(len(data.classes) + 1), 4).astype(
            np.uint8
        )
    data.write()
    data.classes = ["background", *data.classes]


def id_out_of_range(data: Planted) -> None:
    wrong = int(data.rng.integers(len(data.classes) + 1, 250))
    for one in data.samples[:: int(data.rng.integers(1, 4))]:
        ids = one.ids.copy()
        y, x = data.rng.integers(0, min(ids.shape) - 12, 2)
        ids[y : y + 8, x : x + 8] = wrong
        write_ids(data.mask_path(one), ids, voc_palette(256))
        data.truth[data.key(one)] = np.where(ids == wrong, VOID, ids).astype(np.uint8)
    data.most_void = 1.0


def ignore_inside_classes(data: Planted) -> None:
    data.state({"classes": data.classes, "ignore": [int(data.rng.integers(len(data.classes))), VOID]})


def scaled_ids(data: Planted) -> None:
    kept = int(data.rng.integers(3, 7))
    for one in data.samples:
        one.ids = np.where(one.ids == VOID, 0, one.ids % kept).astype(np.uint8)
    data.classes = data.classes[:kept]
    data.write()
    data.state({"classes": data.classes})
    step = 255 // (kept - 1)
    data.rewrite(lambda ids: ids * np.uint8(step))


def instance_ids(data: Planted) -> None:
    def instances(ids: np.ndarray) -> np.ndarray:
        found = ids.astype(np.int32)
        things = (ids != VOID) & (ids >= len(data.classes) // 2)
        number = np.arange(ids.shape[1])[None] // 90
        found[things] = (ids.astype(np.int32) * 1000 + number)[things]
        return found.astype(np.uint16)

    data.rewrite(instances)


def label_ids_as_train_ids(data: Planted) -> None:
    """Needs Cityscapes' classes."""
    from deeplabx.dataset.cityscapes import CLASS_TABLE

    data.classes = [label.name for label in CLASS_TABLE]
    table = np.zeros(256, np.uint8)
    table[: len(CLASS_TABLE)] = [label.label_id for label in CLASS_TABLE]
    for one in data.samples:
        one.ids = np.where(one.ids == VOID, VOID, one.ids % 19).astype(np.uint8)
        one.ids[:3, :3] = 18
    data.write()
    data.rewrite(lambda ids: np.where(ids == VOID, 0, table[ids]).astype(np.uint8))


def class_order(data: Planted) -> None:
    """Needs a known data set's classes; the masks have the published ids."""
    data.state({"classes": sorted(data.classes), "ignore": [VOID]})


def no_classes(data: Planted) -> None:
    (data.root / "classes.yaml").unlink()
    data.renamed = True


def smooth_edges(data: Planted) -> None:
    """Resized with interpolation, or drawn with anti-aliasing."""

    resized, factor = data.rng.random() < 0.5, data.rng.uniform(1.3, 3)

    def smooth(ids: np.ndarray) -> np.ndarray:
        if not resized:
            return cv2.blur(ids, (3, 3), borderType=cv2.BORDER_REPLICATE)
        height, width = ids.shape
        small = cv2.resize(ids, (int(width / factor), int(height / factor)), interpolation=cv2.INTER_NEAREST)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)

    data.rewrite(smooth)
    data.most_void = 1.0
    # Borders moved: by less than a pixel of the smaller mask, or, between classes of neighbouring ids, at
    # corners.
    around = np.ones((2 * int(factor) + 3 if resized else 3,) * 2, np.uint8)
    for one in data.samples:
        data.unsure[data.key(one)] = cv2.morphologyEx(one.ids, cv2.MORPH_GRADIENT, around) > 0


def lossy_mask(data: Planted) -> None:
    """JPEG masks of 0 and 255."""
    data.two_classes()
    data.state({"classes": {0: "background", 255: "object"}})
    for one in data.samples:
        data.mask_path(one).unlink()
        save(data.mask_path(one, ".jpg"), one.ids * np.uint8(255), quality=int(data.rng.integers(70, 96)))
    data.most_void = 0.3


def compressed_mask(data: Planted) -> None:
    """Colours that were a JPEG once."""
    palette = [PALETTE[index].tolist() for index in range(len(data.classes))]
    table = dict(zip(data.classes, palette, strict=True))
    data.state({"classes": table, "ignore": [PALETTE[VOID].tolist()]})

    def through_jpeg(ids: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(coloured(ids)).save(file, "JPEG", quality=int(data.rng.integers(60, 93)))
        return np.array(Image.open(file))

    data.rewrite(through_jpeg)
    data.most_void, data.most_wrong = 1.0, 0.001  # objects of a few pixels are gone


def colours_among_ids(data: Planted) -> None:
    one = data.samples[int(data.rng.integers(len(data.samples)))]
    Image.fromarray(coloured(one.ids)).save(data.mask_path(one))


# --- files --------------------------------------------------------------------------------------------------


def resized_mask(data: Planted) -> None:
    factor = float(data.rng.choice([0.25, 0.5, 0.75, 2.0]))
    for one in data.samples:
        size = (round(one.ids.shape[1] * factor), round(one.ids.shape[0] * factor))
        small = cv2.resize(one.ids, size, interpolation=cv2.INTER_NEAREST)
        write_ids(data.mask_path(one), small, voc_palette(256))
        data.truth[data.key(one)] = small


def turned_mask(data: Planted) -> None:
    for one in data.samples[: int(data.rng.integers(1, 5))]:
        write_ids(data.mask_path(one), np.ascontiguousarray(one.ids.T), voc_palette(256))
        del data.truth[data.key(one)]


def exif(data: Planted) -> None:
    """Photos upside down, with EXIF that says so; the masks were drawn on what viewers show."""
    for one in data.samples[: int(data.rng.integers(1, 5))]:
        tags = Image.Exif()
        tags[0x0112] = 3
        save(data.image_path(one), np.ascontiguousarray(one.image[::-1, ::-1]), exif=tags, quality=95)


def missing_file(data: Planted) -> None:
    for one in data.samples[: int(data.rng.integers(1, 5))]:
        data.mask_path(one).unlink()
        del data.truth[data.key(one)]


def unreadable(data: Planted) -> None:
    for number, one in enumerate(data.samples[: int(data.rng.integers(1, 5))]):
        path = data.image_path(one) if number % 2 else data.mask_path(one)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * data.rng.uniform(0.1, 0.9))])
        del data.truth[data.key(one)]


def size_bomb(data: Planted) -> None:
    one = data.samples[int(data.rng.integers(len(data.samples)))]
    head = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", np.array([40_000, 40_000], ">u4").tobytes() + b"\x08\0\0\0\0"
    )
    data.mask_path(one).write_bytes(head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    del data.truth[data.key(one)]


def chunk(kind: bytes, content: bytes) -> bytes:
    import struct
    import zlib

    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def several_pages(data: Planted) -> None:
    one = data.samples[int(data.rng.integers(len(data.samples)))]
    data.mask_path(one).unlink()
    page = Image.fromarray(one.ids)
    page.save(data.mask_path(one, ".tif"), save_all=True, append_images=[page])
    del data.truth[data.key(one)]


def more_than_8_bits(data: Planted) -> None:
    one = data.samples[int(data.rng.integers(len(data.samples)))]
    data.image_path(one).unlink()
    save(data.image_path(one, ".png"), one.image[..., 0].astype(np.uint16) * 200)
    del data.truth[data.key(one)]


# --- splits and content -------------------------------------------------------------------------------------


def by_split(data: Planted) -> tuple[list[Sample], list[Sample]]:
    return [one for one in data.samples if one.split == "train"], [
        one for one in data.samples if one.split == "val"
    ]


def duplicate_across_splits(data: Planted) -> None:
    training, evaluated = by_split(data)
    for one, other in zip(evaluated[: int(data.rng.integers(1, 4))], training, strict=False):
        data.image_path(other).write_bytes(data.image_path(one).read_bytes())
        data.mask_path(other).write_bytes(data.mask_path(one).read_bytes())
        del data.truth[data.key(other)]


def near_duplicate_across_splits(data: Planted) -> None:
    """Saved again with another quality, resized, or mirrored."""
    training, evaluated = by_split(data)
    for number, (one, other) in enumerate(
        zip(evaluated[: int(data.rng.integers(1, 4))], training, strict=False)
    ):
        image, ids = one.image, one.ids
        if number == 1:
            image, ids = image[:, ::-1], ids[:, ::-1]
        if number == 2:
            size = (ids.shape[1] // 2, ids.shape[0] // 2)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            ids = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
        save(data.image_path(other), np.ascontiguousarray(image), quality=int(data.rng.integers(40, 90)))
        write_ids(data.mask_path(other), np.ascontiguousarray(ids), voc_palette(256))
        del data.truth[data.key(other)]


def duplicate_in_split(data: Planted) -> None:
    training = sorted(by_split(data)[0], key=lambda one: one.name)
    data.image_path(training[1]).write_bytes(data.image_path(training[0]).read_bytes())
    data.mask_path(training[1]).write_bytes(data.mask_path(training[0]).read_bytes())
    del data.truth[data.key(training[1])]


def class_never_occurs(data: Planted) -> None:
    data.classes = [*data.classes, "unicorn"]
    data.write()


def class_in_one_split(data: Planted) -> None:
    data.classes = [*data.classes, "tram"]
    for one in by_split(data)[int(data.rng.integers(2))]:
        one.ids[5:20, 5:20] = len(data.classes) - 1
    data.write()


def constant_image(data: Planted) -> None:
    for one in data.samples[: int(data.rng.integers(1, 4))]:
        save(data.image_path(one), np.full_like(one.image, int(data.rng.integers(256))))
        del data.truth[data.key(one)]


def no_data(data: Planted) -> None:
    """A footprint with straight edges, as rasters have it, whose rest is black or white."""
    for one in data.samples[: int(data.rng.integers(1, 6))]:
        height, width = one.ids.shape
        value = int(data.rng.choice([0, 255]))
        side = data.rng.uniform(0.15, 0.5)
        corner = np.array([[0, 0], [int(width * side), 0], [0, int(height * side)]], np.int32)
        image, empty = one.image.copy(), np.zeros(one.ids.shape, np.uint8)
        if data.rng.random() < 0.5:
            cv2.fillPoly(empty, [corner], 1)
        else:
            empty[:, : int(width * side)] = 1
        ids = np.where(one.ids == VOID, 0, one.ids).astype(np.uint8)
        image[empty > 0] = value
        areas = np.indices(ids.shape)[1] // 8 % 2 + 1  # background would be right there
        ids[empty > 0] = areas[empty > 0]
        data.image_path(one).unlink()
        save(data.image_path(one, ".png"), image)
        write_ids(data.mask_path(one), ids, voc_palette(256))
        data.truth[data.key(one)] = np.where(empty > 0, VOID, ids).astype(np.uint8)
    data.most_void = 1.0


def void_label(data: Planted) -> None:
    for one in data.samples[: int(data.rng.integers(1, 4))]:
        write_ids(data.mask_path(one), np.full_like(one.ids, VOID), voc_palette(256))
        del data.truth[data.key(one)]


def single_class(data: Planted) -> None:
    for one in data.samples:
        one.ids = np.where(one.ids == VOID, VOID, 0).astype(np.uint8)
    data.write()


FAULTS: dict[str, Callable[[Planted], None]] = {
    planter.__name__: planter
    for planter in (
        palette_as_colour, palette_as_grey, rgb_masks, zero_255, off_by_one, background_not_named,
        id_out_of_range,
        ignore_inside_classes, scaled_ids, instance_ids, label_ids_as_train_ids, class_order, no_classes,
        smooth_edges,
        lossy_mask, compressed_mask, colours_among_ids, resized_mask, turned_mask, exif, missing_file,
        unreadable,
        size_bomb, several_pages, more_than_8_bits, duplicate_across_splits, near_duplicate_across_splits,
        duplicate_in_split, class_never_occurs, class_in_one_split, constant_image, no_data, void_label,
        single_class,
    )
}  # fmt: skip
# Other kinds that say the same.
ALSO = {
    "no_classes": {"unknown_ids"},
    "smooth_edges": {"compressed_mask"},
    "compressed_mask": {"smooth_edges"},
}
NOT_REPAIRED = {
    "class_order", "exif", "class_never_occurs", "class_in_one_split", "single_class",
}  # fmt: skip
