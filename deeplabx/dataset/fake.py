"""Small generated data sets in the original layouts, to try a reader, a command or a training without the
real files.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml

from deeplabx.dataset import camvid, cityscapes, voc
from deeplabx.dataset.contract import IGNORE_INDEX, Palette
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.writing import write_ids, write_image
from deeplabx.errors import DataError, resource_error

FOLDER_CLASSES = ["background", "road", "water", "tree"]
SPLITS = ("train", "val")
CITY = "fakecity"


class Scene(NamedTuple):
    image: np.ndarray  # uint8 H x W x 3
    ids: np.ndarray  # uint8 H x W, train ids and the ignore index


def scenes(count: int, palette: Palette, *, height: int, width: int, seed: int) -> Iterator[Scene]:
    """Images of up to five patches, each in its class's colour with noise and a void border: easy to
    learn.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        ids = np.full((height, width), rng.integers(len(palette)), np.uint8)
        for _ in range(rng.integers(2, 6)):
            corner = rng.integers((0, 0), (width, height))
            opposite = corner + rng.integers((width // 6, height // 6), (width // 2, height // 2))
            index = int(rng.integers(len(palette)))
            cv2.rectangle(ids, corner.tolist(), opposite.tolist(), index, -1)
            cv2.rectangle(ids, corner.tolist(), opposite.tolist(), IGNORE_INDEX, 1)
        colours = np.array([*palette, *[(128, 128, 128)] * (256 - len(palette))], np.float32)[ids]
        noisy = colours + rng.normal(0, 12, colours.shape)
        yield Scene(np.clip(noisy, 0, 255).astype(np.uint8), ids)


def fake_voc(out: Path, *, images: int, seed: int) -> None:
    """VOCdevkit/VOC2012 with train, val and trainval, and SBD's benchmark_RELEASE beside it: more images,
    labels as .mat files.
    """
    from scipy.io import savemat

    base, sbd = out / "VOCdevkit" / "VOC2012", out / voc.SBD_FOLDERS[0]
    (sbd / "cls").mkdir(parents=True)
    lists: dict[str, list[str]] = {"train": [], "val": [], "sbd": []}
    palette = voc_palette(len(voc.CLASSES))
    for number, scene in enumerate(scenes(3 * images, palette, height=120, width=160, seed=seed)):
        name = f"2012_{number:06d}"
        part = ("train", "val", "sbd")[number // images]
        lists[part].append(name)
        write_image(base / "JPEGImages" / f"{name}.jpg", scene.image)
        if part == "sbd":
            ids = np.where(scene.ids == IGNORE_INDEX, 0, scene.ids).astype(np.uint8)  # SBD has no void
            savemat(
                sbd / "cls" / f"{name}.mat",
                {"GTcls": {"Segmentation": ids, "Boundaries": 0, "CategoriesPresent": 0}},
            )
        else:
            write_ids(base / "SegmentationClass" / f"{name}.png", scene.ids, voc_palette(256))
    (base / voc.LISTS).mkdir(parents=True)
    for split, names in (
        ("train", lists["train"]),
        ("val", lists["val"]),
        ("trainval", lists["train"] + lists["val"]),
    ):
        write_lines(base / voc.LISTS / f"{split}.txt", names)


def fake_cityscapes(out: Path, *, images: int, seed: int) -> None:
    """leftImg8bit, gtFine and gtCoarse with one city each for train and val; labels as labelIds."""
    palette = [label.colour for label in cityscapes.CLASS_TABLE]
    label_ids = np.zeros(256, np.uint8)  # void is `unlabeled`, 0
    label_ids[: len(palette)] = [label.label_id for label in cityscapes.CLASS_TABLE]
    for number, scene in enumerate(scenes(2 * images, palette, height=128, width=256, seed=seed)):
        split = SPLITS[number // images]
        stem = f"{CITY}_{number:06d}_000019"
        write_image(out / "leftImg8bit" / split / CITY / f"{stem}_leftImg8bit.png", scene.image)
        for kind in ("gtFine", "gtCoarse"):
            write_ids(
                out / kind / split / CITY / f"{stem}_{kind}_labelIds.png",
                label_ids[scene.ids],
                voc_palette(256),
            )


def fake_camvid(out: Path, *, images: int, seed: int) -> None:
    """train, trainannot, val, valannot."""
    for number, scene in enumerate(scenes(2 * images, camvid.PALETTE, height=120, width=160, seed=seed)):
        split = SPLITS[number // images]
        write_image(out / split / f"frame_{number:05d}.png", scene.image)
        ids = np.where(scene.ids == IGNORE_INDEX, camvid.VOID, scene.ids).astype(np.uint8)
        write_ids(out / f"{split}annot" / f"frame_{number:05d}.png", ids, [*camvid.PALETTE, (0, 0, 0)])


def fake_folder(out: Path, *, images: int, seed: int) -> None:
    """images, masks and classes.yaml."""
    palette = voc_palette(len(FOLDER_CLASSES))
    for number, scene in enumerate(scenes(2 * images, palette, height=120, width=160, seed=seed)):
        split = SPLITS[number // images]
        write_image(out / "images" / split / f"image_{number:05d}.jpg", scene.image)
        write_ids(out / "masks" / split / f"image_{number:05d}.png", scene.ids, palette)
    classes = {name: list(colour) for name, colour in zip(FOLDER_CLASSES, palette, strict=True)}
    (out / "classes.yaml").write_text(
        yaml.safe_dump(
            {"classes": classes, "ignore": [IGNORE_INDEX]}, sort_keys=False, default_flow_style=None
        ),
        encoding="utf-8",
    )


FAKES: dict[str, Callable[..., None]] = {
    "voc": fake_voc,
    "cityscapes": fake_cityscapes,
    "camvid": fake_camvid,
    "folder": fake_folder,
}


def write_fake(name: str, out: Path, *, images: int, seed: int) -> None:
    """Write `images` images per split into `out`, which must be new or empty. Raises DataError."""
    if name not in FAKES:
        raise DataError(
            f"dataset={name} has no files to generate", hint=f"data sets with files: {', '.join(FAKES)}"
        )
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"out={out} already exists; nothing was written", hint="use a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        FAKES[name](out, images=images, seed=seed)
    except OSError as error:
        raise resource_error(error) or DataError(f"out={out} cannot be written: {error.strerror}") from None


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
