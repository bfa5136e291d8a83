"""deeplabx predict: class ids and an overlay for each image."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from deeplabx.command.job import Job
from deeplabx.dataset.io import IMAGE_SUFFIXES, read_image, write_ids, write_image
from deeplabx.errors import DataError
from deeplabx.process.distributed import gathered, is_main, own_share
from deeplabx.process.launch import launch
from deeplabx.process.memory import keep_freed_memory
from deeplabx.report.overlay import overlay
from deeplabx.run.description import Change, StoredModel, stored_model


def main(job: Job) -> None:
    predict(job.config.ckpt, Path(job.config.input), job.folder, change=job.changed)


def predict(ckpt: str, source: Path, folder: Path, *, change: Change) -> None:
    """Write <stem>.png (palette ids, the image's own size) and <stem>_overlay.png for each image, sub-folders
    kept.

    An image that cannot be read does not stop the others; DataError names them all at the end.
    """
    images = found_images(source, besides=folder)
    targets = planned(images, source, folder)
    found = stored_model(ckpt, change=change)
    pairs = list(zip(images, targets, strict=True))
    failures = launch(predict_share, found, pairs, devices=found.config.trainer.devices)
    print(f"{len(images) - len(failures)} of {len(images)} images predicted, in {folder}")
    if failures:
        raise DataError(
            f"{len(failures)} of {len(images)} images could not be read; the others are done",
            hint=failures[0],
        )


def predict_share(found: StoredModel, pairs: list[tuple[Path, Path]]) -> list[str]:
    """One process's share of the images; what went wrong in all of them."""
    keep_freed_memory()
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


def found_images(source: Path, *, besides: Path) -> list[Path]:
    """The image, or every image below a folder, sorted; not those of an output folder inside it, which an
    earlier run may have left.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"input={source} does not exist")
    inside = besides.resolve() != source.resolve()
    found = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    images = sorted(
        path for path in found if not (inside and path.resolve().is_relative_to(besides.resolve()))
    )
    if not images:
        raise DataError(f"input={source} holds no images", hint=f"looked for {' '.join(IMAGE_SUFFIXES)}")
    return images


def planned(images: list[Path], source: Path, folder: Path) -> list[Path]:
    """Where each image's ids go. Raises DataError when two would go to one place, or onto an image that is
    read.
    """
    base = source if source.is_dir() else source.parent
    targets = [folder / image.relative_to(base).parent / f"{image.stem}.png" for image in images]
    taken = {image.resolve(): image for image in images}
    for image, target in zip(images, targets, strict=True):
        for file in (target, target.with_name(f"{target.stem}_overlay.png")):
            other = taken.setdefault(file.resolve(), image)
            if other is not image or file.resolve() == image.resolve():
                raise DataError(
                    f"{image} would be written to {file}, which is that of {other}",
                    hint="rename one of them, or give another out=FOLDER",
                )
    return targets
