"""Your own images: masks in files, with a classes.yaml that says what they mean, or labels in another of
FORMATS. No code is needed.

images/train/a.jpg  masks/train/a.png      or images/a.jpg with train.txt and val.txt, or images/a.jpg and
dataset.val_fraction or dataset.folds
"""

import re
from collections.abc import Iterator
from pathlib import Path

from deeplabx.dataset.class_table import ClassTable
from deeplabx.dataset.coco import CocoFiles
from deeplabx.dataset.files import LabelledFiles, complete, root_folder, root_hint
from deeplabx.dataset.labelme import LabelMeFiles
from deeplabx.dataset.listing import (
    IMAGE_SUFFIXES,
    Found,
    Names,
    RealFolders,
    contents,
    found_in,
    images_in,
    nfc,
    refuse_two_of_a_name,
)
from deeplabx.dataset.lists import ListFiles
from deeplabx.dataset.splits import Partition, images_of_split
from deeplabx.errors import DataError, printable

LAYOUT = (
    "a folder data set is classes.yaml, images/<split>/ and masks/<split>/; for JSON, lists or masks beside "
    "images, set dataset.format; see docs/data.md"
)
FORMATS = ("masks", "beside", "coco", "labelme", "list")
OWN_SPLITS = Partition()
MASK_SUFFIX = ".png"  # of masks beside their images, which have another


def folder(
    *,
    root: str | None,
    split: str,
    format: str = "masks",
    annotations: str | None = None,
    unlabelled: str = "background",
    mask_suffix: str = "",
    mask_alpha: str = "refuse",
    val_fraction: float | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: str | None = None,
    split_seed: int = 0,
) -> LabelledFiles:
    """One split of people's own images below `root`, whose labels are of one of FORMATS.

    annotations: of coco and list, the one file of all images, below root; None for one of each split.
    unlabelled: of coco and labelme, what pixels outside all shapes are, background or ignore. mask_suffix,
    mask_alpha: of masks, as `Folder` has them. val_fraction, folds, fold, group, split_seed: as `Partition`
    has them.
    """
    partition = Partition(val_fraction, split_seed, group, folds, fold)
    found = of_format(
        partition,
        root=root,
        split=split,
        format=format,
        annotations=annotations,
        unlabelled=unlabelled,
        mask_suffix=mask_suffix,
        mask_alpha=mask_alpha,
    )
    if group is not None and root is not None:
        images = Path(root) / "images"
        found.group_pattern, found.group_folder = group, images if images.is_dir() else Path(root)
    return found


def of_format(
    partition: Partition,
    *,
    root: str | None,
    split: str,
    format: str,
    annotations: str | None,
    unlabelled: str,
    mask_suffix: str,
    mask_alpha: str,
) -> LabelledFiles:
    if format == "masks":
        return Folder(
            root=root, split=split, partition=partition, mask_suffix=mask_suffix, mask_alpha=mask_alpha
        )
    base = root_folder(root, name="folder", how_to_get=f"dataset.format={format}: see docs/data.md")
    if format == "beside":
        return Beside(
            base=base, split=split, partition=partition, mask_suffix=mask_suffix, mask_alpha=mask_alpha
        )
    if format == "coco":
        return CocoFiles(
            base=base, split=split, partition=partition, annotations=annotations, unlabelled=unlabelled
        )
    if format == "labelme":
        return LabelMeFiles(base=base, split=split, partition=partition, unlabelled=unlabelled)
    if format == "list":
        return ListFiles(
            base=base, split=split, partition=partition, annotations=annotations, mask_alpha=mask_alpha
        )
    raise DataError(f"dataset.format={format} is not one of {', '.join(FORMATS)}")


class MaskFiles(LabelledFiles):
    """Pairs of an image and a mask, with the classes.yaml of `base`. masks: of all images, also of those that
    are missing.
    """

    def __init__(
        self, base: Path, found: Found, masks: list[Path], *, split: str, hint: str, alpha: str
    ) -> None:
        if not found.paths:
            held = f" (only {found.suffixes})" if found.suffixes else ""
            raise DataError(
                f"{base}, split {split} contains no images{held}",
                hint=f"looked for {' '.join(IMAGE_SUFFIXES)} in images/",
            )
        pairs = complete(
            list(zip(found.paths, masks, strict=True)), where=f"{base}, split {split}", hint=hint
        )
        table = ClassTable.read(base / "classes.yaml", masks=masks)
        super().__init__(pairs, label_map=table.label_map)
        self.classes, self.palette, self.ignore_index = table.names, table.palette, table.ignore_index
        self.mask_alpha = alpha


class Folder(MaskFiles):
    """One split of `root`, with masks in masks/. partition: for a folder without splits of its own.

    mask_suffix: added to an image's name to get its mask's, as `_mask` in a_mask.png for a.jpg. mask_alpha:
    refuse, void or keep: what transparent pixels of a mask are.
    """

    def __init__(
        self,
        *,
        root: str | None,
        split: str,
        partition: Partition = OWN_SPLITS,
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
        found = images_of_split(base, base / "images", split, partition)
        refuse_two_of_a_name(found.paths)
        masks = masks_of(base, found.paths, mask_suffix)
        hint = how_to_pair(base, found.paths, masks, mask_suffix)
        super().__init__(base, found, masks, split=split, hint=hint, alpha=mask_alpha)
        own = base / "masks" / split if (base / "images" / split).is_dir() else base / "masks"
        self.left_out = [*found.left_out, *masks_without_image(base, own, masks, mask_suffix)]


class Beside(MaskFiles):
    """One split of the folder `base`, with each mask beside its image: a_mask.png with mask_suffix=_mask, or
    a.png beside a.jpg. Images are in images/ where there is one, else in `base` itself.
    """

    def __init__(
        self,
        *,
        base: Path,
        split: str,
        partition: Partition,
        mask_suffix: str = "",
        mask_alpha: str = "refuse",
    ) -> None:
        def is_mask(path: Path) -> bool:
            if mask_suffix:
                return nfc(path.stem).endswith(nfc(mask_suffix))
            return path.suffix.lower() == MASK_SUFFIX

        def look(folder: Path) -> Found:
            found = images_in(folder)
            return found._replace(paths=[path for path in found.paths if not is_mask(path)])

        images = base / "images" if (base / "images").is_dir() else base
        found = images_of_split(base, images, split, partition, look=look)
        if not found.paths and not mask_suffix:
            raise DataError(
                f"{base}, split {split} contains no images: without dataset.mask_suffix, masks are the .png "
                "files, and images have another suffix",
                hint="where images are .png too, set dataset.mask_suffix=_mask, the end of the masks' names",
            )
        refuse_two_of_a_name(found.paths)
        names = Names()

        def mask_of(image: Path) -> Path:
            stem = f"{image.stem}{mask_suffix}"
            masks = [path for path in names.with_stem(image.parent, stem) if is_mask(path)]
            if len(masks) > 1:
                raise DataError(f"{image} has {len(masks)} masks: {', '.join(path.name for path in masks)}")
            return masks[0] if masks else image.with_name(f"{stem}{MASK_SUFFIX}")

        masks = [mask_of(image) for image in found.paths]
        beside = "a.png" if not mask_suffix else f"a{mask_suffix}.png"
        hint = (
            f"the mask of a.jpg is {beside} beside it; set dataset.mask_suffix if mask names have another "
            "ending"
        )
        super().__init__(base, found, masks, split=split, hint=hint, alpha=mask_alpha)
        used = {mask_of(image) for image in look(images).paths}
        rest = [path for path in images_in(images).paths if is_mask(path) and path not in used]
        self.left_out = list(found.left_out)
        if rest:
            self.left_out.append(
                printable(f"masks below {images} without an image: {len(rest)}, the first: {rest[0]}")
            )


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
        words.append(f"masks below {folder} without an image: {len(rest)}, the first: {rest[0]}")
    return [printable(one) for one in words]
