"""Small generated data sets in the original layouts, to try a reader, a command or a training without the
real files.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deeplabx.dataset import ade20k, camvid, cityscapes, coco_stuff, pascal_context, voc
from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.fake_folder import FOLDER_FAKES
from deeplabx.dataset.fake_scenes import SPLITS, scenes, write_lines
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.writing import place_for, save_grey, write_ids, write_image
from deeplabx.errors import DataError, resource_error

CITY = "fakecity"


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


def fake_ade20k(out: Path, *, images: int, seed: int) -> None:
    """images and annotations, each with training and validation."""
    for number, scene in enumerate(
        scenes(2 * images, ade20k.ADE20K.palette, height=120, width=160, seed=seed)
    ):
        split = SPLITS[number // images]
        part, name = ade20k.SPLITS[split], f"ADE_{split}_{number:08d}"
        write_image(out / "images" / part / f"{name}.jpg", scene.image)
        raw = np.where(scene.ids == IGNORE_INDEX, ade20k.OTHER, scene.ids + 1).astype(np.uint8)
        write_ids(out / "annotations" / part / f"{name}.png", raw, voc_palette(256))


def fake_coco_stuff164k(out: Path, *, images: int, seed: int) -> None:
    """images and stuffthingmaps, each with train2017 and val2017."""
    pixels = np.full(256, coco_stuff.VOID, np.uint8)
    pixels[: len(coco_stuff.IDS)] = np.array(coco_stuff.IDS) - 1
    for number, scene in enumerate(scenes(2 * images, coco_stuff.PALETTE, height=120, width=160, seed=seed)):
        part, name = coco_stuff.SPLITS[SPLITS[number // images]], f"{number:012d}"
        write_image(out / "images" / part / f"{name}.jpg", scene.image)
        save_grey(place_for(out / coco_stuff.LABELS_IN[0] / part / f"{name}.png"), pixels[scene.ids])


def fake_coco_stuff10k(out: Path, *, images: int, seed: int) -> None:
    """images, annotations as .mat files, and imageLists."""
    from scipy.io import savemat

    raw = np.full(256, coco_stuff.UNLABELLED, np.uint8)
    raw[: len(coco_stuff.IDS)] = coco_stuff.IDS
    names = [f"COCO_train2014_{number:012d}" for number in range(2 * images)]
    (out / "annotations").mkdir()
    for name, scene in zip(
        names, scenes(2 * images, coco_stuff.PALETTE, height=120, width=160, seed=seed), strict=True
    ):
        write_image(out / "images" / f"{name}.jpg", scene.image)
        savemat(out / "annotations" / f"{name}.mat", {"S": raw[scene.ids]}, do_compression=True)
    for split, part in (("train", names[:images]), ("test", names[images:]), ("all", names)):
        write_lines(out / "imageLists" / f"{split}.txt", part)


def fake_pascal_context(out: Path, *, images: int, seed: int) -> None:
    """VOCdevkit/VOC2010 with SegmentationClassContext and its lists."""
    base, names = out / "VOCdevkit" / "VOC2010", [f"2010_{number:06d}" for number in range(2 * images)]
    palette = pascal_context.PascalContext.palette
    for name, scene in zip(names, scenes(2 * images, palette, height=120, width=160, seed=seed), strict=True):
        write_image(base / "JPEGImages" / f"{name}.jpg", scene.image)
        raw = np.where(scene.ids == IGNORE_INDEX, 0, scene.ids + 1).astype(np.uint8)
        save_grey(place_for(base / pascal_context.PNG_FOLDER / f"{name}.png"), raw)
    for split, part in (("train", names[:images]), ("val", names[images:])):
        write_lines(base / pascal_context.LISTS[0] / f"{split}.txt", part)


FAKES: dict[str, Callable[..., None]] = {
    "voc": fake_voc,
    "cityscapes": fake_cityscapes,
    "camvid": fake_camvid,
    "ade20k": fake_ade20k,
    "coco_stuff164k": fake_coco_stuff164k,
    "coco_stuff10k": fake_coco_stuff10k,
    "pascal_context": fake_pascal_context,
}


def write_fake(name: str, out: Path, *, images: int, seed: int, labels: str = "masks") -> None:
    """Write `images` images per split into `out`, which must be new or empty. labels: of the data set folder,
    one of its formats. Raises DataError.
    """
    known = {**FAKES, "folder": FOLDER_FAKES[labels]}
    if name not in known:
        raise DataError(
            f"dataset={name} has no files to generate", hint=f"data sets with files: {', '.join(known)}"
        )
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"out={out} already exists; nothing was written", hint="use a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        known[name](out, images=images, seed=seed)
    except OSError as error:
        raise resource_error(error) or DataError(f"out={out} cannot be written: {error.strerror}") from None
