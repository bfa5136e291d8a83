"""deeplabx predict: class ids and an overlay for each image."""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deeplabx.command.job import Job
from deeplabx.command.weights import checkpoint_of
from deeplabx.dataset.image_file import read_image
from deeplabx.dataset.listing import IMAGE_SUFFIXES
from deeplabx.dataset.writing import write_ids, write_image
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


def predict(found: StoredModel, sources: list[Path], folder: Path) -> None:
    """Write <stem>.png (palette ids, the image's own size) and <stem>_overlay.png for each image, sub-folders
    kept.

    An image that cannot be read does not stop the others; DataError names them all at the end.
    """
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    pairs = [pair for source in sources for pair in placed(source, folder)]
    refuse_collisions(pairs)
    with ended_by_signals(f"stopped; the images predicted so far are in {folder}"):
        failures = launch(
            predict_share, found, pairs, devices=found.config.trainer.devices, prepare=plugins.loader()
        )
    done, checkpoint = len(pairs) - len(failures), found.checkpoint.path
    print(f"{done} of {len(pairs)} images predicted, in {folder}, with {checkpoint}")
    if failures:
        raise DataError(
            f"{len(failures)} of {len(pairs)} images could not be read; the others are done",
            hint=failures[0],
        )


def predict_share(found: StoredModel, pairs: list[tuple[Path, Path]]) -> list[str]:
    """One process's share of the images; what went wrong in all of them."""
    predictor, palette = found.predictor(), found.description.palette
    failures = []
    for path, target in tqdm(own_share(pairs), unit="image", disable=None if is_main() else True):
        try:
            image = read_image(path)
        except DataError as error:
            failures.append(error.message)
            continue
        ids = predictor.ids(image).cpu().numpy().astype(np.uint8)
        write_ids(target, ids, palette)
        write_image(target.with_name(f"{target.stem}_overlay.png"), overlay(image, ids, palette))
    return gathered(failures)


def found_images(source: Path, *, besides: Path | None) -> list[Path]:
    """The image, or every image below a folder, sorted; not those of an output folder inside it, which an
    earlier run may have left.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"input={source} does not exist")
    found = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    out = None if besides is None or besides.resolve() == source.resolve() else besides.resolve()
    images = sorted(path for path in found if out is None or not path.resolve().is_relative_to(out))
    if not images:
        raise DataError(f"input={source} holds no images", hint=f"looked for {' '.join(IMAGE_SUFFIXES)}")
    return images


def placed(source: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Each image of a source, and where its ids go."""
    base = source if source.is_dir() else source.parent
    return [
        (image, folder / image.relative_to(base).parent / f"{image.stem}.png")
        for image in found_images(source, besides=folder)
    ]


def refuse_collisions(pairs: list[tuple[Path, Path]]) -> None:
    """Raise DataError when two images would go to one place, or onto an image that is read."""
    taken = {image.resolve(): image for image, _ in pairs}
    for image, target in pairs:
        for file in (target, target.with_name(f"{target.stem}_overlay.png")):
            other = taken.setdefault(file.resolve(), image)
            if other is not image or file.resolve() == image.resolve():
                raise DataError(
                    f"{image} would be written to {file}, the output of {other}",
                    hint="rename one of them, or give another out=FOLDER",
                )
