"""Where the files of a prediction go: those of each image and video at its path below the folder that it was
given by.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset import submission as submissions
from deeplabx.dataset.inputs import Given, is_video
from deeplabx.dataset.listing import RealFolders
from deeplabx.errors import DataError

IMAGE, VIDEO, RASTER = "image", "video", "raster"  # a raster is read and written by blocks
LONGEST_NAME = 255  # bytes
# What can be written, with the end of its name. Of a video, all but the overlay are folders with a file for
# each frame, whose suffix is that of an image's.
ENDINGS = {
    IMAGE: {
        "ids": ".png",
        "colour": "_colour.png",
        "overlay": "_overlay.png",
        "probabilities": "_probabilities.npy",
        "polygons": ".geojson",
    },
    VIDEO: {
        "ids": "",
        "colour": "_colour",
        "overlay": "_overlay.mp4",
        "probabilities": "_probabilities",
        "polygons": "_polygons",
    },
    RASTER: {
        "ids": ".tif",
        "colour": "_colour.tif",
        "overlay": "_overlay.tif",
        "probabilities": "_probabilities.tif",
        "polygons": ".geojson",
    },
}


class Task(NamedTuple):
    """An image, video or raster, and the files that are written for it, by what they are."""

    source: Path
    name: str  # of the source, below the folder that it was given by
    files: dict[str, Path]
    kind: str = IMAGE

    def of_frame(self, number: int) -> dict[str, Path]:
        """The files of one frame of a video."""
        return {
            kind: folder / f"{number:06d}.{ENDINGS[IMAGE][kind].rpartition('.')[2]}"
            for kind, folder in self.files.items()
            if kind != "overlay"
        }


def besides(folder: Path) -> Path:
    """What is no input though it lies inside one: the output folder, or all of outputs/ where that is the
    default one, as earlier predictions and runs are there too.
    """
    default = folder.parent.parent
    return default if folder.parent.name == "predict" and default.name == "outputs" else folder


def once_each(given: Sequence[Given]) -> tuple[list[Path], list[Path]]:
    """The images, one that is given twice once, and for each the folder that it was given by."""
    real = RealFolders()
    found: dict[Path, tuple[Path, Path]] = {}
    for base, listing in given:
        for image in listing.paths:
            found.setdefault(real.path(image), (image, base))
    return [image for image, _ in found.values()], [base for _, base in found.values()]


def placed(
    images: Sequence[Path],
    bases: Sequence[Path],
    folder: Path,
    *,
    save: Sequence[str],
    submission: str | None = None,
    rasters: Collection[Path] = (),
) -> list[Task]:
    """Where the files of each image go. save: which of ENDINGS. submission: one of `submissions.SERVERS`.
    rasters: those of the images that are read by blocks.

    Images of one name from two inputs are kept apart by the paths of the inputs below the folder that those
    share; images of one folder, as a.jpg and a.png, by their full names. Raises DataError where two cannot be
    kept apart, or a file that is read would be overwritten.
    """
    insides = [image.relative_to(base) for image, base in zip(images, bases, strict=True)]
    kinds = [VIDEO if is_video(image) else RASTER if image in rasters else IMAGE for image in images]

    def files_for(insides: Sequence[Path], full: Collection[int] = ()) -> list[dict[str, Path]]:
        return [
            files_of(inside, kind, save, full=index in full)
            for index, (inside, kind) in enumerate(zip(insides, kinds, strict=True))
        ]

    files = files_for(insides)
    if any(len({bases[index] for index in owners}) > 1 for owners in clashes(files)):
        real = [base.resolve() for base in bases]
        shared = os.path.commonpath({*real})
        insides = [base.relative_to(shared) / inside for base, inside in zip(real, insides, strict=True)]
        files = files_for(insides)
    refuse_overwriting(images, files, folder)
    full: set[int] = set()
    while wanted := {index for owners in clashes(files) for index in owners} - full:
        full |= wanted
        files = files_for(insides, full)
    for first, second, *_ in clashes(files):
        raise DataError(
            f"{images[first]} and {images[second]} would be written to one file", hint="rename one of them"
        )
    if submission is not None:
        files = [
            {**own, "submission": submissions.place_of(submission, image)}
            for image, own in zip(images, files, strict=True)
        ]
    refuse_overwriting(images, files, folder)
    refuse_long_names(images, files)
    return [
        Task(image, inside.as_posix(), {what: folder / path for what, path in own.items()}, kind)
        for image, inside, own, kind in zip(images, insides, files, kinds, strict=True)
    ]


def files_of(inside: Path, kind: str, save: Sequence[str], *, full: bool = False) -> dict[str, Path]:
    """What is written of an image, by what it is; with its suffix in the names if `full`."""
    name = inside.name if full else inside.stem
    return {what: inside.with_name(f"{name}{ENDINGS[kind][what]}") for what in save}


def clashes(files: Sequence[dict[str, Path]]) -> list[list[int]]:
    """The images, by their index, that have a file in common, or a file in a folder of a video's."""
    owners: defaultdict[Path, list[int]] = defaultdict(list)
    for index, own in enumerate(files):
        for file in own.values():
            owners[file].append(index)
    folders = {file for file in owners if not file.suffix}
    for index, own in enumerate(files) if folders else ():
        for parent in {parent for file in own.values() for parent in file.parents} & folders:
            owners[parent].append(index)
    return [indices for indices in owners.values() if len(indices) > 1]


def refuse_long_names(images: Sequence[Path], files: Sequence[dict[str, Path]]) -> None:
    """Raise DataError for an image whose files would have names that no file system takes."""
    for image, own in zip(images, files, strict=True):
        for file in own.values():
            if len(os.fsencode(file.name)) > LONGEST_NAME:
                raise DataError(
                    f"the name of {image} is too long: {file.name} would have more than {LONGEST_NAME} bytes",
                    hint="rename it",
                )


def refuse_overwriting(images: Sequence[Path], files: Sequence[dict[str, Path]], folder: Path) -> None:
    """Raise DataError when a file would be written onto an image that is read."""
    real = RealFolders()
    read = {real.path(image): image for image in images}
    read |= {image.resolve(): image for image in images if image.is_symlink()}
    for image, own in zip(images, files, strict=True):
        for file in own.values():
            other = read.get(real.path(folder / file))
            if other is not None:
                raise DataError(
                    f"{image} would be written to {folder / file}, which is the image {other}",
                    hint="give another out=FOLDER, or rename one of them",
                )
