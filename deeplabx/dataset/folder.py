"""Your own images: images/ and masks/ with a classes.yaml that says what the masks mean. No code is
needed.

images/train/a.jpg  masks/train/a.png      or images/a.jpg with train.txt and val.txt, or images/a.jpg and
dataset.val_fraction
"""

from collections import Counter
from pathlib import Path

import numpy as np

from deeplabx.dataset.class_table import ClassTable
from deeplabx.dataset.files import LabelledFiles, complete, root_folder
from deeplabx.dataset.listing import IMAGE_SUFFIXES, contents, files_in, images_in, listed_names
from deeplabx.errors import DataError

LAYOUT = "a folder data set is classes.yaml, images/<split>/ and masks/<split>/; see docs/data.md"
LOSSLESS = (".png", ".tif", ".tiff", ".bmp")
SEEDED = ("train", "val")  # the two parts of a seeded split
NAMED = (*SEEDED, "test")  # sub-folders or lists of a folder with predefined splits


class Folder(LabelledFiles):
    """One split of `root`. val_fraction: the share of val in a seeded split into train and val, for a folder
    without predefined splits.

    mask_suffix: added to an image's name to get its mask's, as `_mask` in a_mask.png for a.jpg. mask_alpha:
    refuse, void or keep: what transparent pixels of a mask are.
    """

    def __init__(
        self,
        *,
        root: str | None,
        split: str,
        val_fraction: float | None = None,
        split_seed: int = 0,
        mask_suffix: str = "",
        mask_alpha: str = "refuse",
    ) -> None:
        base = root_folder(root, name="folder", how_to_get=LAYOUT)
        for name in ("images", "masks"):
            if not (base / name).is_dir():
                raise DataError(
                    f"dataset.root={root} must contain images/ and masks/, but {contents(base)}", hint=LAYOUT
                )
        images = images_of(base, split, val_fraction=val_fraction, split_seed=split_seed)
        refuse_two_of_a_name(images)
        masks = masks_of(base, images, mask_suffix)
        pairs = complete(
            list(zip(images, masks, strict=True)),
            where=f"{base}, split {split}",
            hint=f"the mask of images/a.jpg is masks/a{mask_suffix}.png; set dataset.mask_suffix if mask "
            "names have another ending",
        )
        table = ClassTable.read(base / "classes.yaml", masks=masks)
        super().__init__(pairs, label_map=table.label_map)
        self.classes, self.palette, self.ignore_index = table.names, table.palette, table.ignore_index
        self.mask_alpha = mask_alpha


def images_of(base: Path, split: str, *, val_fraction: float | None, split_seed: int) -> list[Path]:
    """A split's images: those of images/<split>/, those that <split>.txt lists, or those of a seeded
    split.
    """
    own = [name for name in NAMED if (base / "images" / name).is_dir() or (base / f"{name}.txt").is_file()]
    if val_fraction is not None and own:
        raise DataError(
            f"{base} already has splits ({', '.join(own)}); dataset.val_fraction={val_fraction} "
            "would mix them",
            hint="leave dataset.val_fraction unset, or put all images into images/ itself",
        )
    if (base / "images" / split).is_dir():
        return images_in(base / "images" / split)
    if (base / f"{split}.txt").is_file():
        return listed_images(base / "images", base / f"{split}.txt")
    if val_fraction is None:
        raise DataError(
            f"{base} has neither images/{split}/ nor {split}.txt; images/: {contents(base / 'images')}",
            hint="set dataset.val_fraction=0.2 for a seeded split into train and val",
        )
    return seeded_split(base, split, val_fraction=val_fraction, split_seed=split_seed)


def seeded_split(base: Path, split: str, *, val_fraction: float, split_seed: int) -> list[Path]:
    images = images_in(base / "images")
    held_out = max(1, round(len(images) * val_fraction))
    if split not in SEEDED:
        raise DataError(
            f"dataset split {split}: a seeded split has only train and val",
            hint=f"or write {base / split}.txt",
        )
    if held_out >= len(images):
        raise DataError(
            f"{base}/images holds {len(images)} images, too few for dataset.val_fraction={val_fraction}"
        )
    order = np.random.default_rng(split_seed).permutation(len(images))
    chosen = order[:held_out] if split == "val" else order[held_out:]
    return [images[place] for place in sorted(chosen)]


def listed_images(images: Path, source: Path) -> list[Path]:
    """The images that a split's list names, with or without their suffix."""
    by_name: dict[str, list[Path]] = {}
    for path in images_in(images):
        inside = path.relative_to(images)
        for key in (inside, inside.with_suffix("")):
            by_name.setdefault(key.as_posix(), []).append(path)
    found = []
    for name in listed_names(source):
        paths = by_name.get(Path(name).as_posix(), [])
        if len(paths) != 1:
            raise DataError(f"{source}: {name!r} matches {len(paths)} images below {images}, not one")
        found += paths
    return found


def refuse_two_of_a_name(images: list[Path]) -> None:
    """Raise DataError if a name occurs twice: two images would share a mask, or one would be two samples."""
    twice = [path for path, count in Counter(path.with_suffix("") for path in images).items() if count > 1]
    if twice:
        raise DataError(f"duplicate image name in the split: {twice[0]} ({len(twice)} such names)")


def masks_of(base: Path, images: list[Path], mask_suffix: str) -> list[Path]:
    """The mask of each image, at the same relative path below masks/; for a missing mask, a .png path that
    does not exist.
    """
    by_stem: dict[Path, list[Path]] = {}
    for path in files_in(base / "masks"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            by_stem.setdefault(path.with_suffix(""), []).append(path)
    masks = []
    for image in images:
        inside = image.relative_to(base / "images")
        stem = base / "masks" / inside.parent / f"{inside.stem}{mask_suffix}"
        found = by_stem.get(stem, [stem.parent / f"{stem.name}.png"])
        if len(found) > 1:
            raise DataError(f"{image} has {len(found)} masks: {', '.join(path.name for path in found)}")
        if found[0].suffix.lower() not in LOSSLESS:
            raise DataError(
                f"{found[0]}: a mask must not be a {found[0].suffix} file: compression changes ids",
                hint="save masks as PNG",
            )
        masks += found
    return masks
