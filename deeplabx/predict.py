"""deeplabx predict: class ids and an overlay for each picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplabx.build import Described, described, restored
from deeplabx.dataset.io import PICTURE_SUFFIXES, read_image, write_ids, write_image
from deeplabx.engine.distributed import gathered, is_main, own_share
from deeplabx.engine.launch import launch
from deeplabx.engine.memory import keep_freed_memory
from deeplabx.errors import DataError
from deeplabx.report.overlay import overlay


def predict(ckpt: str, source: Path, folder: Path, *, change: Callable[[Any], None]) -> None:
    """Write <stem>.png (palette ids, the picture's own size) and <stem>_overlay.png for each picture, sub-folders kept.

    A picture that cannot be read does not stop the others; DataError names them all at the end.
    """
    pictures = found_pictures(source, besides=folder)
    targets = planned(pictures, source, folder)
    found = described(ckpt, change=change)
    pairs = list(zip(pictures, targets, strict=True))
    failures = launch(predict_share, found, pairs, devices=found.description.config.trainer.devices)
    print(f"{len(pictures) - len(failures)} of {len(pictures)} pictures predicted, in {folder}")
    if failures:
        raise DataError(f"{len(failures)} of {len(pictures)} pictures could not be read; the others are done", hint=failures[0])


def predict_share(found: Described, pairs: list[tuple[Path, Path]]) -> list[str]:
    """One process's share of the pictures; what went wrong in all of them."""
    keep_freed_memory()
    predictor, palette = restored(found), found.description.palette
    failures = []
    for picture, target in tqdm(own_share(pairs), unit="image", disable=None if is_main() else True):
        try:
            image = read_image(picture)
        except DataError as error:
            failures.append(error.message)
            continue
        ids = predictor.ids(image).cpu().numpy().astype(np.uint8)
        write_ids(target, ids, palette)
        write_image(target.with_name(f"{target.stem}_overlay.png"), overlay(image, ids, palette))
    return gathered(failures)


def found_pictures(source: Path, *, besides: Path) -> list[Path]:
    """The picture, or every picture below a folder, sorted; not those of an output folder inside it, which an earlier run may have left."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"input={source} does not exist")
    inside = besides.resolve() != source.resolve()
    found = (path for path in source.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    pictures = sorted(path for path in found if not (inside and path.resolve().is_relative_to(besides.resolve())))
    if not pictures:
        raise DataError(f"input={source} holds no pictures", hint=f"looked for {' '.join(PICTURE_SUFFIXES)}")
    return pictures


def planned(pictures: list[Path], source: Path, folder: Path) -> list[Path]:
    """Where each picture's ids go. Raises DataError when two would go to one place, or onto a picture that is read."""
    base = source if source.is_dir() else source.parent
    targets = [folder / picture.relative_to(base).parent / f"{picture.stem}.png" for picture in pictures]
    taken = {picture.resolve(): picture for picture in pictures}
    for picture, target in zip(pictures, targets, strict=True):
        for file in (target, target.with_name(f"{target.stem}_overlay.png")):
            other = taken.setdefault(file.resolve(), picture)
            if other is not picture or file.resolve() == picture.resolve():
                raise DataError(
                    f"{picture} would be written to {file}, which is that of {other}", hint="rename one of them, or give another out=FOLDER"
                )
    return targets
