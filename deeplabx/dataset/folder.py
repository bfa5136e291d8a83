"""Your own images: images/ and masks/ with a classes.yaml that says what the masks mean. No code is
needed.

images/train/a.jpg  masks/train/a.png      or images/a.jpg with train.txt and val.txt, or images/a.jpg and
dataset.val_fraction
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deeplabx.dataset.class_table import ClassTable
from deeplabx.dataset.files import LabelledFiles, complete, root_folder, root_hint
from deeplabx.dataset.listing import (
    IMAGE_SUFFIXES,
    Found,
    Names,
    RealFolders,
    contents,
    found_in,
    images_in,
    listed_names,
    nfc,
    refuse_two_of_a_name,
)
from deeplabx.errors import DataError, printable

LAYOUT = "a folder data set is classes.yaml, images/<split>/ and masks/<split>/; see docs/data.md"
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
                    f"dataset.root={root} must contain images/ and masks/, but {contents(base)}",
                    hint=root_hint(
                        base,
                        lambda path: (path / "images").is_dir() and (path / "masks").is_dir(),
                        how_to_get=LAYOUT,
                    ),
                )
        found = split_images(base, split, val_fraction=val_fraction, split_seed=split_seed)
        images = found.paths
        refuse_two_of_a_name(images)
        masks = masks_of(base, images, mask_suffix)
        if not images:
            held = f" (only {found.suffixes})" if found.suffixes else ""
            raise DataError(
                f"{base}, split {split} contains no images{held}",
                hint=f"looked for {' '.join(IMAGE_SUFFIXES)} in images/",
            )
        pairs = complete(
            list(zip(images, masks, strict=True)),
            where=f"{base}, split {split}",
            hint=how_to_pair(base, images, masks, mask_suffix),
        )
        table = ClassTable.read(base / "classes.yaml", masks=masks)
        super().__init__(pairs, label_map=table.label_map)
        self.classes, self.palette, self.ignore_index = table.names, table.palette, table.ignore_index
        self.mask_alpha = mask_alpha
        own = base / "masks" / split if (base / "images" / split).is_dir() else base / "masks"
        self.left_out = [*found.left_out, *masks_without_image(base, own, masks, mask_suffix)]


def split_images(base: Path, split: str, *, val_fraction: float | None, split_seed: int) -> Found:
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
        if (base / f"{split}.txt").is_file():
            raise DataError(
                f"{base} has both images/{split}/ and {split}.txt: which one is the split {split}?",
                hint="remove or rename one of them",
            )
        return images_in(base / "images" / split)
    link = base / "images" / split
    if link.is_symlink():
        raise DataError(f"{link} is a link to {link.readlink()}, where there is no folder")
    if (base / f"{split}.txt").is_file():
        return listed_images(base / "images", base / f"{split}.txt")
    if val_fraction is None:
        raise DataError(
            f"{base} has neither images/{split}/ nor {split}.txt; images/: {contents(base / 'images')}",
            hint="set dataset.val_fraction=0.2 for a seeded split into train and val",
        )
    return seeded_split(base, split, val_fraction=val_fraction, split_seed=split_seed)


def seeded_split(base: Path, split: str, *, val_fraction: float, split_seed: int) -> Found:
    found = images_in(base / "images")
    images = found.paths
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
    return found._replace(paths=[images[index] for index in sorted(chosen)])


def listed_images(images: Path, source: Path) -> Found:
    """The images that a split's list names, with or without their suffix."""
    found = images_in(images)
    by_name: dict[str, list[Path]] = {}
    for path in found.paths:
        inside = path.relative_to(images)
        for key in (inside, inside.with_suffix("")):
            by_name.setdefault(nfc(key.as_posix()), []).append(path)
    names = listed_names(source)
    matches = [by_name.get(nfc(Path(name).as_posix()), []) for name in names]
    wrong = [index for index, paths in enumerate(matches) if len(paths) != 1]
    if wrong:
        count = f" ({len(wrong)} of {len(names)} lines)" if len(wrong) > 1 else ""
        raise DataError(
            f"{source}: {names[wrong[0]]!r} matches {len(matches[wrong[0]])} images below {images}, not "
            f"one{count}",
            hint="a line is an image's path below images/, with / between folders: train/a or train/a.jpg",
        )
    return found._replace(paths=[path for paths in matches for path in paths])


def masks_of(base: Path, images: list[Path], mask_suffix: str) -> list[Path]:
    """The mask of each image, at the same relative path below masks/; for a missing mask, a .png path that
    does not exist.
    """
    masks = []
    for image, found in zip(images, candidates(base, images, mask_suffix), strict=True):
        if len(found) > 1:
            raise DataError(f"{image} has {len(found)} masks: {', '.join(path.name for path in found)}")
        masks += found
    return masks


def candidates(base: Path, images: list[Path], mask_suffix: str) -> Iterator[list[Path]]:
    """The masks that each image has; where it has none, the .png path that was expected."""
    names = Names()
    folders: dict[Path, Path] = {}  # that of the masks by that of the images
    for image in images:
        own = image.parent
        if own not in folders:
            folders[own] = names.path(base / "masks", own.relative_to(base / "images"))
        folder, stem = folders[own], f"{image.stem}{mask_suffix}"
        yield names.with_stem(folder, stem) or [folder / f"{stem}.png"]


def how_to_pair(base: Path, images: list[Path], masks: list[Path], mask_suffix: str) -> str:
    """What to do about images without a mask; empty where each has one."""
    lacking = [pair for pair in zip(images, masks, strict=True) if not pair[1].is_file()]
    if not lacking:
        return ""
    image, mask = lacking[0]
    stems = {nfc(path.stem) for path in images}
    if mask_suffix and image.stem.endswith(mask_suffix) and image.stem.removesuffix(mask_suffix) in stems:
        return f"{image} is named like a mask: move masks out of images/, into masks/"
    beside = found_in(mask.parent).paths if mask.parent.is_dir() else []
    names = sorted(nfc(path.stem) for path in beside)
    stem = nfc(image.stem)
    ends = [name.removeprefix(stem) for name in names if name.startswith(stem) and name not in stems]
    more = [end for end in ends if end and f"{nfc(images[-1].stem)}{end}" in names]
    if more:
        setting = f"dataset.mask_suffix={more[0]}"
        if not re.fullmatch(r"[\w.-]+", more[0], re.ASCII):  # in quotes for the shell and for Hydra
            setting = f"\"dataset.mask_suffix='{more[0]}'\""
        return f"masks are named like {stem}{more[0]}: set {setting}"
    held = f"; {mask.parent} has {len(names)} others, such as {names[0]}" if names else ""
    return (
        f"the mask of images/a.jpg is masks/a{mask_suffix}.png; set dataset.mask_suffix if mask names have "
        f"another ending{held}"
    )


def masks_without_image(base: Path, folder: Path, masks: list[Path], mask_suffix: str) -> list[str]:
    """What lies in `folder` below masks/ and is the mask of no image, of this split or another, in words."""
    found = found_in(folder)
    real = RealFolders()
    used = {real.path(mask) for mask in masks}
    rest = [path for path in found.paths if real.path(path) not in used]
    if rest:  # of images of other splits: one folder may be linked for several, or lists may be the splits
        everything = found_in(base / "images").paths
        used = {real.path(mask) for each in candidates(base, everything, mask_suffix) for mask in each}
        rest = [path for path in rest if real.path(path) not in used]
    words = [*found.left_out, *found.unreadable]
    if rest:
        words.append(f"{len(rest)} masks below {folder} have no image, the first: {rest[0]}")
    return [printable(one) for one in words]
