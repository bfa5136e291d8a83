"""deeplabx predict: class ids and an overlay for each image."""

import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from deeplabx.command.job import Job
from deeplabx.command.weights import checkpoint_of
from deeplabx.dataset.contract import id_dtype
from deeplabx.dataset.image_file import read_image
from deeplabx.dataset.listing import Found, RealFolders, input_images
from deeplabx.dataset.writing import place_for, write_ids, write_image
from deeplabx.errors import DataError
from deeplabx.process.distributed import gathered, is_main, own_share
from deeplabx.process.launch import launch
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.overlay import overlay
from deeplabx.run import plugins
from deeplabx.run.description import StoredModel, stored_model


def main(job: Job) -> None:
    found = stored_model(checkpoint_of(job.config.ckpt), change=job.changed)
    predict(found, [Path(str(one)) for one in job.config.input], job.folder)


class Task(NamedTuple):
    """An image, and the files that are written for it."""

    image: Path
    ids: Path
    overlay: Path


def predict(found: StoredModel, sources: list[Path], folder: Path) -> None:
    """Write <stem>.png (palette ids, the image's own size) and <stem>_overlay.png for each image, sub-folders
    kept.

    An image that cannot be read does not stop the others: unreadable.txt lists it, and DataError counts them
    at the end.
    """
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    listings = [input_images(source, besides=besides(folder)) for source in sources]
    images, bases = once_each(sources, listings)
    tasks = placed(images, bases, folder)
    given = sum(len(listing.paths) for listing in listings)
    twice = [f"{given - len(images)} images were given twice; each is predicted once"]
    left_out = [words for listing in listings for words in listing.left_out]
    for words in [*dict.fromkeys(left_out), *(twice if given > len(images) else [])]:
        print(words)
    with ended_by_signals(f"stopped; the images predicted so far are in {folder}"):
        failures = launch(
            predict_share, found, tasks, devices=found.config.trainer.devices, prepare=plugins.loader()
        )
    lost = list(dict.fromkeys(words for listing in listings for words in listing.unreadable))
    failures, total = [*lost, *failures], len(tasks) + len(lost)
    list_unreadable(folder / "unreadable.txt", failures)
    print(f"{total - len(failures)} of {total} images predicted, in {folder}, with {found.checkpoint.path}")
    if failures:
        raise DataError(
            f"{len(failures)} of {total} images could not be read; the others are done",
            hint=f"{failures[0]}\nall are listed in {folder / 'unreadable.txt'}",
        )


def predict_share(found: StoredModel, tasks: list[Task]) -> list[str]:
    """One process's share of the images; what went wrong in all of them."""
    predictor, palette = found.predictor(), found.description.palette
    channels = found.config.dataset.channels
    failures = []
    for task in tqdm(own_share(tasks), unit="image", disable=None if is_main() else True):
        try:
            image = read_image(task.image, channels=channels)
        except DataError as error:
            failures.append(error.message)
            continue
        ids = predictor.ids(image).cpu().numpy().astype(id_dtype(len(palette)))
        write_ids(task.ids, ids, palette)
        write_image(task.overlay, overlay(image, ids, palette))
    return gathered(failures)


def list_unreadable(path: Path, failures: list[str]) -> None:
    """Write each failure as a line. A list that an earlier prediction left is replaced, or removed."""
    if failures:
        lines = [" ".join(words.splitlines()) for words in failures]
        # A name that is not UTF-8 is listed as the bytes that it is on the disk.
        text = "".join(f"{line}\n" for line in lines)
        place_for(path).write_text(text, encoding="utf-8", errors="surrogateescape")
    else:
        path.unlink(missing_ok=True)


# --- where the files of an image go -------------------------------------------------------------------------


def besides(folder: Path) -> Path:
    """What is no input though it lies inside one: the output folder, or all of outputs/ where that is the
    default one, as earlier predictions and runs are there too.
    """
    default = folder.parent.parent
    return default if folder.parent.name == "predict" and default.name == "outputs" else folder


def once_each(sources: list[Path], listings: list[Found]) -> tuple[list[Path], list[Path]]:
    """The images, one that is given twice once, and for each the folder that it was given by."""
    real = RealFolders()
    found: dict[Path, tuple[Path, Path]] = {}
    for source, listing in zip(sources, listings, strict=True):
        base = source if source.is_dir() else source.parent
        for image in listing.paths:
            found.setdefault(real.path(image), (image, base))
    return [image for image, _ in found.values()], [base for _, base in found.values()]


def placed(images: list[Path], bases: list[Path], folder: Path) -> list[Task]:
    """Where the files of each image go: at its path below the folder that it was given by.

    Images of one name from two inputs are kept apart by the paths of the inputs below the folder that those
    share; images of one folder, as a.jpg and a.png, by their full names. Raises DataError where two cannot be
    kept apart, or a file that is read would be overwritten.
    """
    insides = [image.relative_to(base) for image, base in zip(images, bases, strict=True)]
    files = [files_of(inside) for inside in insides]
    if any(len({bases[index] for index in owners}) > 1 for owners in clashes(files)):
        real = [base.resolve() for base in bases]
        shared = os.path.commonpath({*real})
        insides = [base.relative_to(shared) / inside for base, inside in zip(real, insides, strict=True)]
        files = [files_of(inside) for inside in insides]
    refuse_overwriting(images, files, folder)
    full: set[int] = set()
    while wanted := {index for owners in clashes(files) for index in owners} - full:
        full |= wanted
        files = [files_of(inside, full=index in full) for index, inside in enumerate(insides)]
    for first, second, *_ in clashes(files):
        raise DataError(
            f"{images[first]} and {images[second]} would be written to one file", hint="rename one of them"
        )
    refuse_overwriting(images, files, folder)
    return [
        Task(image, folder / ids, folder / shown) for image, (ids, shown) in zip(images, files, strict=True)
    ]


def files_of(inside: Path, *, full: bool = False) -> tuple[Path, Path]:
    """Ids and overlay of an image; with its suffix in their names if `full`."""
    name = inside.name if full else inside.stem
    return inside.with_name(f"{name}.png"), inside.with_name(f"{name}_overlay.png")


def clashes(files: list[tuple[Path, Path]]) -> list[list[int]]:
    """The images, by their index, that have a file in common."""
    owners: defaultdict[Path, list[int]] = defaultdict(list)
    for index, own in enumerate(files):
        for file in own:
            owners[file].append(index)
    return [indices for indices in owners.values() if len(indices) > 1]


def refuse_overwriting(images: list[Path], files: list[tuple[Path, Path]], folder: Path) -> None:
    """Raise DataError when a file would be written onto an image that is read."""
    real = RealFolders()
    read = {real.path(image): image for image in images}
    read |= {image.resolve(): image for image in images if image.is_symlink()}
    for image, own in zip(images, files, strict=True):
        for file in own:
            other = read.get(real.path(folder / file))
            if other is not None:
                raise DataError(
                    f"{image} would be written to {folder / file}, which is the image {other}",
                    hint="give another out=FOLDER, or rename one of them",
                )
